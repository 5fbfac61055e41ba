"""The row pass on a CPU: blocks of logits rows that stay in the cache, torch operations in place.

Both functions have a Triton twin in ``launch.py`` with the same arguments.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..projection import Head, accumulation_dtype

BLOCK_ELEMENTS = 1 << 17  # 512 KB of float32: two such buffers fit a core's L2
LEAST = -1e30  # for the log p of -inf of a removed entry or an overflow, so that 0 log 0 = 0


class RowStats(NamedTuple):
    """Per row [C]: log-prob of the target, log of the normaliser, what rounding that left out, entropy and
    sum p^2 (None: not asked for).

    Near a peak log p is far smaller than the logits: ``(z - lse) - lse_rest`` has all its digits.
    """

    logprobs: Tensor
    lse: Tensor
    lse_rest: Tensor
    entropy: Tensor | None
    sum_sq: Tensor | None

    def at(self, rows: slice | Tensor) -> "RowStats":
        return RowStats(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]


class RowGrads(NamedTuple):
    """Gradients [C] of a row's outputs; with y its target, H its entropy, S its sum p^2

    dlogits_j = logprobs ([j = y] - p_j) - entropy p_j (log p_j + H) + 2 sum_sq p_j (p_j - S)
    """

    logprobs: Tensor
    entropy: Tensor | None = None
    sum_sq: Tensor | None = None

    def at(self, rows: slice | Tensor) -> "RowGrads":
        return RowGrads(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]

    def idle(self) -> Tensor:
        """[C] bool: all gradients are 0. Such a row adds exactly 0, also where it holds NaN."""
        idle = self.logprobs == 0
        for grad in (self.entropy, self.sum_sq):
            if grad is not None:
                idle = idle & (grad == 0)
        return idle


def row_stats(
    logits: Tensor, targets: Tensor, head: Head, temperature: float | Tensor, *, entropy: bool, sum_sq: bool
) -> RowStats:
    """Args: logits [C, V] as the GEMM left them (bias, softcap, temperature not yet applied); targets [C]."""
    num_rows, vocab = logits.shape
    new = logits.new_empty
    acc = accumulation_dtype(logits.dtype)
    logprobs, lse, lse_rest = (new(num_rows, dtype=acc) for _ in range(3))
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
        lse[rows], lse_rest[rows] = two_sum(peak.squeeze(1), log_total)
        if entropies is not None:  # H = log total - sum p (z - peak)
            torch.sub(log_total, torch.linalg.vecdot(p, z.clamp_(min=LEAST)), out=entropies[rows])
        if sums_sq is not None:
            sums_sq[rows] = torch.linalg.vecdot(p, p)
    return RowStats(logprobs, lse, lse_rest, entropies, sums_sq)


def two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a + b as rounded, and what the rounding left out, exactly (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def write_dlogits(
    out: Tensor | None,
    logits: Tensor,
    targets: Tensor,
    stats: RowStats,
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
    target, entropy, sum_sq = (None if c is None else (c / temperature).unsqueeze(1) for c in grads)
    size = max(1, min(num_rows, BLOCK_ELEMENTS // vocab))
    z_buffer, p_buffer = (stats.lse.new_empty(size, vocab) for _ in range(2))
    slope_buffer = None if head.softcap is None else stats.lse.new_empty(size, vocab)
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        z, p = z_buffer[: rows.stop - start], p_buffer[: rows.stop - start]
        slope = None if slope_buffer is None else slope_buffer[: rows.stop - start]
        _load(
            z, logits[rows], head, temperature if isinstance(temperature, float) else temperature[rows], slope
        )
        torch.softmax(z, 1, out=p)
        if entropy is None and sum_sq is None:
            dz = p.mul_(-target[rows])
        else:
            at = stats.at(rows)
            if entropy is None:
                z.copy_((-target[rows]).expand_as(z))
            else:
                z.sub_(at.lse.unsqueeze(1)).add_((at.entropy - at.lse_rest).unsqueeze(1)).clamp_(min=LEAST)
                torch.addcmul(-target[rows], z, entropy[rows], value=-1, out=z)
            if sum_sq is not None:
                z.addcmul_(p - at.sum_sq.unsqueeze(1), sum_sq[rows], value=2)
            dz = z.mul_(p)
        dz.scatter_add_(1, targets[rows].unsqueeze(1), target[rows])
        if slope is not None:
            dz.mul_(slope)
        out[rows].copy_(dz)
    idle = grads.idle()
    if idle.is_cuda:
        return out.masked_fill_(idle.unsqueeze(1), 0.0)
    return out.index_fill_(0, idle.nonzero().squeeze(1), 0.0)


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
