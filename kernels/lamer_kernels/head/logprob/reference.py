"""Reference: the definition of the op. Full logits, any float dtype; runs anywhere."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..._core.dispatch import without_autocast


class LinearLogprobRef(NamedTuple):
    logprobs: Tensor
    entropy: Tensor
    sum_sq: Tensor


@without_autocast
def linear_logprob_ref(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    token_idx: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> LinearLogprobRef:
    x = hidden if token_idx is None else hidden[token_idx]
    logits = x @ weight.to(x.dtype).T
    acc = torch.float64 if logits.dtype is torch.float64 else torch.float32
    logits = logits.to(acc)
    if bias is not None:
        logits = logits + bias.to(acc)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits / (temperature.to(acc).unsqueeze(1) if isinstance(temperature, Tensor) else temperature)
    log_p = torch.log_softmax(logits, dim=1)
    p = log_p.exp()
    entropy = -(p * log_p.masked_fill(p == 0, 0.0)).sum(1)  # 0 log 0 = 0
    return LinearLogprobRef(log_p.gather(1, targets.unsqueeze(1)).squeeze(1), entropy, (p * p).sum(1))
