"""The row pass on a CPU: blocks of logits rows that stay in the cache, torch operations in place.

Both functions have a Triton twin in ``launch.py`` with the same arguments.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .._head import Head, accumulation_dtype

BLOCK_ELEMENTS = 1 << 17  # 512 KB of float32: two such buffers fit a core's L2


class RowStats(NamedTuple):
    """Per row [C]: log-prob of the target, log of the normaliser, entropy, sum p^2 (None: not asked for)."""

    logprobs: Tensor
    lse: Tensor
    entropy: Tensor | None
    sum_sq: Tensor | None

    def at(self, rows: slice | Tensor) -> "RowStats":
        return RowStats(*(None if x is None else x[rows] for x in self))


class RowGrads(NamedTuple):
    """Coefficients [C] of ``dlogits_j = p_j (prob + log_prob log p_j + square p_j) + target [j = y]``."""

    target: Tensor
    prob: Tensor
    log_prob: Tensor | None
    square: Tensor | None

    def at(self, rows: slice | Tensor) -> "RowGrads":
        return RowGrads(*(None if x is None else x[rows] for x in self))


def row_grads(
    stats: RowStats, grad_logprobs: Tensor | None, grad_entropy: Tensor | None, grad_sum_sq: Tensor | None
) -> RowGrads:
    """The chain rule from the three outputs of a row to its logits, folded into four coefficients.

    d logp_y / dz_j = [j = y] - p_j;  dH / dz_j = -p_j (log p_j + H);  dS / dz_j = 2 p_j (p_j - S)
    """
    target = torch.zeros_like(stats.logprobs) if grad_logprobs is None else grad_logprobs
    prob = -target
    if grad_entropy is not None:
        prob = prob - grad_entropy * stats.entropy
    if grad_sum_sq is not None:
        prob = prob - 2 * grad_sum_sq * stats.sum_sq
    return RowGrads(
        target,
        prob,
        None if grad_entropy is None else -grad_entropy,
        None if grad_sum_sq is None else 2 * grad_sum_sq,
    )


def row_stats(
    logits: Tensor, targets: Tensor, head: Head, temperature: float | Tensor, *, entropy: bool, sum_sq: bool
) -> RowStats:
    """Args: logits [C, V] as the GEMM left them (bias, softcap, temperature not yet applied); targets [C]."""
    num_rows, vocab = logits.shape
    new = logits.new_empty
    acc = accumulation_dtype(logits.dtype)
    logprobs, lse = new(num_rows, dtype=acc), new(num_rows, dtype=acc)
    entropies = new(num_rows, dtype=acc) if entropy else None
    sums_sq = new(num_rows, dtype=acc) if sum_sq else None
    size = max(1, min(num_rows, BLOCK_ELEMENTS // vocab))
    z_buffer, p_buffer = new(size, vocab, dtype=acc), new(size, vocab, dtype=acc)
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        z, p = z_buffer[: rows.stop - start], p_buffer[: rows.stop - start]
        _load(
            z, logits[rows], head, temperature if isinstance(temperature, float) else temperature[rows], None
        )
        peak = z.amax(1, keepdim=True)
        torch.softmax(z.sub_(peak), 1, out=p)
        log_total = p.amax(1).log().neg_()  # the largest p is exp(0) / total
        torch.sub(z.gather(1, targets[rows].unsqueeze(1)).squeeze(1), log_total, out=logprobs[rows])
        torch.add(peak.squeeze(1), log_total, out=lse[rows])
        if entropies is not None:  # H = log total - sum p (z - peak)
            torch.sub(log_total, torch.linalg.vecdot(p, z), out=entropies[rows])
        if sums_sq is not None:
            sums_sq[rows] = torch.linalg.vecdot(p, p)
    return RowStats(logprobs, lse, entropies, sums_sq)


def write_dlogits(
    out: Tensor | None,
    logits: Tensor,
    targets: Tensor,
    lse: Tensor,
    grads: RowGrads,
    head: Head,
    temperature: float | Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """The gradient [C, V] with respect to ``x @ weight.T`` in ``dtype``, hidden's: here always that of the
    logits.

    Args:
        out: buffer like ``logits`` whose memory takes the result; None overwrites ``logits``.
    """
    out = logits if out is None else out
    num_rows, vocab = logits.shape
    # temperature and tanh' are the last factors of the chain rule: the first goes into the coefficients
    target, prob, log_prob, square = (None if c is None else c / temperature for c in grads)
    size = max(1, min(num_rows, BLOCK_ELEMENTS // vocab))
    z_buffer, p_buffer = (lse.new_empty(size, vocab) for _ in range(2))
    slope_buffer = None if head.softcap is None else lse.new_empty(size, vocab)
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        z, p = z_buffer[: rows.stop - start], p_buffer[: rows.stop - start]
        slope = None if slope_buffer is None else slope_buffer[: rows.stop - start]
        _load(
            z, logits[rows], head, temperature if isinstance(temperature, float) else temperature[rows], slope
        )
        torch.softmax(z, 1, out=p)
        if log_prob is None and square is None:
            dz = p.mul_(prob[rows].unsqueeze(1))
        else:
            if log_prob is None:
                z.copy_(prob[rows].unsqueeze(1).expand_as(z))
            else:
                z.sub_(lse[rows].unsqueeze(1))
                z.mul_(log_prob[rows].unsqueeze(1)).add_(prob[rows].unsqueeze(1))
            if square is not None:
                z.addcmul_(p, square[rows].unsqueeze(1))
            dz = z.mul_(p)
        dz.scatter_add_(1, targets[rows].unsqueeze(1), target[rows].unsqueeze(1))
        if slope is not None:
            dz.mul_(slope)
        out[rows].copy_(dz)
    return out


def _load(z: Tensor, logits: Tensor, head: Head, temperature: float | Tensor, slope: Tensor | None) -> None:
    """z = logits with bias, softcap and temperature; slope = tanh', when wanted."""
    z.copy_(logits)
    if head.bias is not None:
        z.add_(head.bias)
    if head.softcap is not None:
        z.div_(head.softcap).tanh_()
        if slope is not None:
            torch.addcmul(z.new_ones(()), z, z, value=-1, out=slope)
        z.mul_(head.softcap)
    if isinstance(temperature, Tensor):
        z.div_(temperature.unsqueeze(1))
    elif temperature != 1.0:
        z.div_(temperature)
