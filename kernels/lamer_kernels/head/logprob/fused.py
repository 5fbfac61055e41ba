# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc,untyped-decorator"
"""The row pass on a CPU in numba: each row of logits is read once for its statistics, once for its gradient.

The same functions as in ``cpu.py``, for bfloat16 logits without a softcap.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import as_numpy, exp, fma, jit, load, store
from ..projection import Head
from .cpu import RowGrads, RowStats

BLOCK_V = 1024  # vocabulary entries at a time: the float32 scratch stays in the L1 cache
LEAST = np.float32(-87)  # exp() is constant from here down; a probability is what it gives above that


def row_stats(
    logits: Tensor, targets: Tensor, head: Head, temperature: float | Tensor, *, entropy: bool, sum_sq: bool
) -> RowStats:
    if len(targets) and not (int(targets.min()) >= 0 and int(targets.max()) < logits.shape[1]):
        low, high = int(targets.min()), int(targets.max())  # compiled code trusts them
        raise ValueError(f"targets must lie in [0, {logits.shape[1]}), got {low} to {high}")
    logprobs, lse, lse_rest, entropies, sums_sq = (
        logits.new_empty(len(logits), dtype=torch.float32) for _ in RowStats._fields
    )
    _over_rows(
        _row_stats, len(logits), _bias(head), logits, targets, _per_row(temperature, logits),
        logprobs, lse, lse_rest, entropies, sums_sq,
    )  # fmt: skip
    return RowStats(logprobs, lse, lse_rest, entropies if entropy else None, sums_sq if sum_sq else None)


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
    out = logits if out is None else out
    zero = torch.zeros_like(stats.lse)
    target, entropy, sum_sq = (zero if c is None else c / temperature for c in grads)
    center = zero if stats.entropy is None else stats.entropy - stats.lse_rest
    mean_p = zero if stats.sum_sq is None else stats.sum_sq
    coefficients = torch.stack([target, -entropy, 2 * sum_sq, center, mean_p])
    _over_rows(
        _write_dlogits, len(logits), _bias(head), logits, targets, _per_row(temperature, logits), stats.lse,
        coefficients, out,
    )  # fmt: skip
    return out


def _bias(head: Head) -> Tensor:
    return torch.zeros(0, dtype=torch.float32) if head.bias is None else head.bias.contiguous()


def _per_row(temperature: float | Tensor, logits: Tensor) -> Tensor:
    if isinstance(temperature, Tensor):
        return temperature.contiguous()
    return torch.full((len(logits),), temperature, dtype=torch.float32)


def _over_rows(kernel: Any, num_rows: int, bias: Tensor, *tensors: Tensor) -> None:
    """kernel(first row, end, bias, ...) on as many threads as torch uses: a row depends on no other."""
    arrays = [as_numpy(bias), *(as_numpy(x) for x in tensors)]
    num_threads = max(1, min(torch.get_num_threads(), num_rows // 16))
    bounds = [num_rows * i // num_threads for i in range(num_threads + 1)]
    if num_threads == 1:
        kernel(0, num_rows, *arrays)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda i: kernel(bounds[i], bounds[i + 1], *arrays), range(num_threads)))


@jit
def _load_block(row, bias, start, temperature, z):
    """z = the row's logits from start on, with bias and temperature; len(z) of them."""
    stored = row[start : start + len(z)]
    if len(bias) > 0:
        more = bias[start : start + len(z)]
        for i in range(len(z)):
            z[i] = load(stored[i]) + more[i]
    else:
        for i in range(len(z)):
            z[i] = load(stored[i])
    if temperature != np.float32(1.0):
        for i in range(len(z)):
            z[i] /= temperature


@jit
def _raise(top, x):
    for i in range(len(x)):
        top[i] = x[i] if x[i] > top[i] else top[i]


@jit
def _exponentials(z, e, peak):
    """z <- z - peak, e = exp of that."""
    exp_least = exp(LEAST)
    for i in range(len(z)):
        u = z[i] - peak
        u = LEAST if u < LEAST else u
        z[i] = u
        e[i] = exp(u) - exp_least


@jit
def _add_products(total, x, y):
    for i in range(len(x)):
        total[i] = fma(x[i], y[i], total[i])


@jit
def _sum(x):
    """Of a vector whose length is a power of two, halving it: vectors all the way, and one order."""
    n = len(x)
    while n > 1:
        n //= 2
        upper = x[n : 2 * n]
        for i in range(n):
            x[i] += upper[i]
    return np.float64(x[0])


@jit
def _row_stats(first, end, bias, logits, targets, temperatures, logprobs, lse, lse_rest, entropy, sum_sq):
    """Maxima and sums are taken lane by lane of a block, and over the lanes at the end of the row."""
    vocab = logits.shape[1]
    # one allocation each: of rows of one array the compiler cannot tell that they do not overlap
    z_block, e_block = np.zeros(BLOCK_V, np.float32), np.zeros(BLOCK_V, np.float32)
    top, total = np.zeros(BLOCK_V, np.float32), np.zeros(BLOCK_V, np.float32)
    weighted, squares = np.zeros(BLOCK_V, np.float32), np.zeros(BLOCK_V, np.float32)
    one = np.ones(BLOCK_V, np.float32)
    target = np.zeros(1, np.float32)
    for r in range(first, end):
        row, temperature = logits[r], temperatures[r]
        top[:] = -1e38
        for start in range(0, vocab, BLOCK_V):
            z = z_block[: min(BLOCK_V, vocab - start)]
            _load_block(row, bias, start, temperature, z)
            _raise(top, z)
        peak = top.max()
        total[:], weighted[:], squares[:] = 0, 0, 0
        for start in range(0, vocab, BLOCK_V):
            z = z_block[: min(BLOCK_V, vocab - start)]
            _load_block(row, bias, start, temperature, z)
            e = e_block[: len(z)]
            _exponentials(z, e, peak)
            _add_products(total, e, one)
            _add_products(weighted, e, z)
            _add_products(squares, e, e)
        _load_block(row, bias, targets[r], temperature, target)
        sum_e = _sum(total)
        log_total = np.log(sum_e)
        logprobs[r] = (np.float64(target[0]) - np.float64(peak)) - log_total
        lse[r] = peak + log_total
        lse_rest[r] = (peak + log_total) - np.float64(lse[r])
        entropy[r] = log_total - _sum(weighted) / sum_e
        sum_sq[r] = _sum(squares) / (sum_e * sum_e)


@jit
def _write_dlogits(first, end, bias, logits, targets, temperatures, lse, coefficients, out):
    """out_j = target ([j = y] - p_j) + p_j (log_prob (log p_j + H) + square (p_j - S)).

    coefficients: [5, C] target, log_prob, square, H less the rest of lse, S. out may be logits: a block is
    read before it is written.
    """
    vocab = logits.shape[1]
    z_block, value = np.zeros(BLOCK_V, np.float32), np.zeros(1, np.float32)
    for r in range(first, end):
        row, temperature, y = logits[r], temperatures[r], targets[r]
        target, log_prob, square = coefficients[0, r], coefficients[1, r], coefficients[2, r]
        if target == 0 and log_prob == 0 and square == 0:
            out[r] = 0
            continue
        center, sum_sq = coefficients[3, r], coefficients[4, r]
        _load_block(row, bias, y, temperature, value)
        _gradient(value, lse[r], -target, log_prob, square, center, sum_sq)
        value[0] += target
        for start in range(0, vocab, BLOCK_V):
            z = z_block[: min(BLOCK_V, vocab - start)]
            _load_block(row, bias, start, temperature, z)
            _gradient(z, lse[r], -target, log_prob, square, center, sum_sq)
            block = out[r, start : start + len(z)]
            for i in range(len(z)):
                block[i] = store(z[i], block[i])
        out[r, y] = store(value[0], out[r, y])


@jit
def _gradient(z, lse, prob, log_prob, square, center, sum_sq):
    """z <- p (prob + log_prob (log p + H) + square (p - S)), p = exp(z - lse), 0 below e^-87."""
    exp_least = exp(LEAST)
    if log_prob == 0 and square == 0:
        for i in range(len(z)):
            u = z[i] - lse
            u = LEAST if u < LEAST else u
            z[i] = (exp(u) - exp_least) * prob
    else:
        for i in range(len(z)):
            u = z[i] - lse
            u = LEAST if u < LEAST else u
            p = exp(u) - exp_least
            z[i] = p * (prob + fma(log_prob, u + center, square * (p - sum_sq)))
