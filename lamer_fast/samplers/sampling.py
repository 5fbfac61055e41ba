"""Drawing of tokens from given numbers: a draw depends on its request and position, not on the batch."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.samplers.protocol import Sampling


def sample(
    logits: Tensor,
    draws: NDArray[np.float32],
    sampling: Sampling,
    observe: Callable[[Tensor], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Invert the distribution function of each row at its draw.

    Args:
        logits: [B, V] float32.
        draws: [B] in [0, 1).
        observe: gets the log-probabilities [B, V] that tokens are drawn by, before they are.

    Returns:
        (tokens [B], their log-probabilities [B] after temperature, before anything is cut).
    """
    temperature, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
    logprobs = torch.log_softmax(logits / temperature if temperature not in (0, 1) else logits, dim=-1)
    if temperature == 0:
        if observe is not None:
            observe(logprobs)
        chosen, tokens = logprobs.max(dim=-1, keepdim=True)
        return tokens[:, 0].cpu().numpy(), chosen[:, 0].cpu().numpy()
    weights = logprobs.exp()
    if top_k or top_p < 1:
        weights = _cut(weights, top_p, top_k)
    if observe is not None:
        observe(logprobs.masked_fill(weights == 0, -torch.inf) if top_k or top_p < 1 else logprobs)
    on_device = torch.from_numpy(draws).to(logprobs.device)
    invert = _invert if logprobs.device.type == "cpu" else _invert_in_fixed_point
    tokens = invert(weights, on_device).clamp_(max=logprobs.shape[-1] - 1)
    return tokens[:, 0].cpu().numpy(), logprobs.gather(1, tokens)[:, 0].cpu().numpy()


def _invert(weights: Tensor, draws: Tensor) -> Tensor:
    """[B, 1] tokens; weights [B, V] sum to about 1."""
    cumulative = weights.cumsum(dim=-1)
    return torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)


FIXED_BITS, DRAW_BITS = 39, 23  # a draw times a sum stays below 2^63
MAX_FIXED = 1 << 25  # numbers at a time, 256 MiB


def _invert_in_fixed_point(weights: Tensor, draws: Tensor) -> Tensor:
    """The same in integers: on a GPU the order of a running sum is not fixed, and integers do not feel it."""
    tokens = []
    rows = max(1, MAX_FIXED // weights.shape[-1])
    for first in range(0, len(weights), rows):
        cumulative = _fixed(weights[first : first + rows]).cumsum(dim=-1)
        multiples = (draws[first : first + rows] * 2.0**DRAW_BITS).long()[:, None]
        targets = (multiples * cumulative[:, -1:]) >> DRAW_BITS
        tokens.append(torch.searchsorted(cumulative, targets, right=True))
    return torch.cat(tokens)


def _fixed(weights: Tensor) -> Tensor:
    return (weights * 2.0**FIXED_BITS).long()


def _cut(weights: Tensor, top_p: float, top_k: int) -> Tensor:
    """Zero all but the `top_k` likeliest, and of these all but the fewest that hold `top_p` of the mass."""
    ordered, order = weights.sort(dim=-1, descending=True)
    if top_k:
        ordered[:, top_k:] = 0
    summed = ordered if ordered.device.type == "cpu" else _fixed(ordered)  # see _invert_in_fixed_point
    mass_before = summed.cumsum(dim=-1) - summed
    ordered[mass_before >= top_p * summed.sum(dim=-1, keepdim=True)] = 0
    return torch.zeros_like(weights).scatter_(1, order, ordered)
