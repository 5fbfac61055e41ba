"""Reference: the definition of the divergences, differentiated by autograd. Any float dtype and device."""

import torch
from torch import Tensor


def linear_divergence_ref(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    kind: str = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """[L] of rows hidden [L, H] and teacher_hidden [L, H']."""
    s = (hidden @ weight.T / temperature).log_softmax(-1)
    t = (teacher_hidden @ teacher_weight.T / temperature).log_softmax(-1).detach()
    if kind == "forward":
        return _kl(t, s)
    if kind == "reverse":
        return _kl(s, t)
    m = (beta * t.exp() + (1 - beta) * s.exp()).log()
    return beta * _kl(t, m) + (1 - beta) * _kl(s, m)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """sum over the vocabulary of e^p (p - q); an entry of probability 0 adds nothing."""
    return torch.where(p.exp() == 0, 0.0, p.exp() * (p - q)).sum(-1)
