"""The row pass by Triton: the same functions as in ``cpu.py``, one launch each."""

from typing import Any

import torch
import triton
from torch import Tensor

from ..._core.launch import launch
from ..projection import ROW_MULTIPLE, Head, accumulation_dtype
from .cpu import RowGrads, RowStats
from .gpu import row_stats_kernel, write_dlogits_kernel


def row_stats(
    logits: Tensor, targets: Tensor, head: Head, temperature: float | Tensor, *, entropy: bool, sum_sq: bool
) -> RowStats:
    num_rows, vocab = logits.shape
    logprobs, lse, lse_rest = (logits.new_empty(num_rows, dtype=torch.float32) for _ in range(3))
    entropies, sums_sq = (
        logits.new_empty(num_rows, dtype=torch.float32) if wanted else None for wanted in (entropy, sum_sq)
    )
    launch(
        row_stats_kernel, num_rows, logits, targets, head.bias, per_row(temperature),
        logprobs, lse, lse_rest, entropies, sums_sq, vocab, width(logits), logits.stride(0),
        **scalars(head, temperature),
        HAS_ENTROPY=entropy, HAS_SUM_SQ=sum_sq, **blocks(vocab),
    )  # fmt: skip
    return RowStats(logprobs, lse, lse_rest, entropies, sums_sq)


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
    num_rows, vocab = logits.shape
    out = overlay(logits if out is None else out, dtype)
    launch(
        write_dlogits_kernel, num_rows, logits, out, targets,
        *stats, *grads, head.bias, per_row(temperature),
        vocab, width(logits, out), logits.stride(0), out.stride(0), **scalars(head, temperature),
        HAS_ENTROPY=grads.entropy is not None, HAS_SUM_SQ=grads.sum_sq is not None, **blocks(vocab),
    )  # fmt: skip
    return out


def overlay(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """[C, V] of ``dtype`` over the memory of ``logits``: each row starts where the logits' row does."""
    if logits.dtype is dtype:
        return logits
    ratio = accumulation_dtype(dtype).itemsize // dtype.itemsize
    num_rows, apart = logits.shape[0], logits.stride(0)
    flat = logits.as_strided((num_rows * apart,), (1,)).view(dtype)
    return flat.as_strided(logits.shape, (ratio * apart, 1))


def width(*rows: Tensor) -> int:
    """Columns that a pass over [C, V] tensors may touch: beyond V up to a multiple of 16 where all have room,
    so that it needs no mask within 16 bytes."""
    vocab = rows[0].shape[1]
    padded = -(-vocab // ROW_MULTIPLE) * ROW_MULTIPLE
    return padded if all(x.stride(0) >= padded for x in rows) else vocab


def per_row(temperature: float | Tensor) -> Tensor | None:
    return temperature if isinstance(temperature, Tensor) else None


def scalars(head: Head, temperature: float | Tensor) -> dict[str, Any]:
    return {
        "softcap": head.softcap or 1.0,
        "temperature": 1.0 if isinstance(temperature, Tensor) else temperature,
        "HAS_BIAS": head.bias is not None,
        "HAS_SOFTCAP": head.softcap is not None,
        "HAS_TEMPERATURES": isinstance(temperature, Tensor),
    }


def blocks(vocab: int) -> dict[str, int]:
    block = min(4096, triton.next_power_of_2(vocab))
    return {"BLOCK_V": block, "num_warps": 8 if block == 4096 else 4}
