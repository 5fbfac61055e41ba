"""The loops over token chunks: forward and backward of linear_logprob under its three plans.

cached     logits of all selected tokens fit the workspace and are kept: 3 GEMMs
recompute  the backward pass computes them again, chunk by chunk: 4 GEMMs
frozen     the head needs no gradient: the forward pass keeps d output / d hidden [L, H], 2 GEMMs, no logits
    kept
values     nothing needs a gradient: 1 GEMM
"""

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from ..._core.dispatch import HAS_NUMBA
from ..projection import (
    Head,
    Slabs,
    accumulation_dtype,
    add_dweight,
    max_chunk_tokens,
    new_dweight,
    new_logits,
    token_chunks,
    write_dx,
    write_logits,
)
from . import cpu
from .cpu import RowGrads, RowStats


def row_passes(backend: str, dtype: torch.dtype, head: Head) -> ModuleType:
    if backend == "triton" and dtype is not torch.float64:  # the Triton kernels compute in float32
        from . import launch

        return launch
    # numba_math.exp is good to 2e-6 at -60: enough for bfloat16, not for float32
    if HAS_NUMBA and dtype is torch.bfloat16 and head.softcap is None and head.weight.device.type == "cpu":
        from . import fused

        return fused
    return cpu


class Forward(NamedTuple):
    """Per token [L]; ``logits`` [L, V] under plan cached, ``units`` [n, L, H] under frozen, else empty."""

    stats: RowStats
    logits: Tensor
    units: Tensor


def forward(
    x: Tensor,
    targets: Tensor,
    head: Head,
    *,
    entropy: bool,
    sum_sq: bool,
    plan: str,
    workspace_bytes: int,
    backend: str,
) -> Forward:
    """x: [L, H] the selected rows."""
    passes = row_passes(backend, x.dtype, head)
    (num_tokens, hidden), vocab = x.shape, head.weight.shape[0]
    acc = accumulation_dtype(x.dtype)
    cached = plan == "cached"
    max_tokens = (
        num_tokens if cached else min(num_tokens, max_chunk_tokens(x, vocab, workspace_bytes, backend))
    )
    buffer = new_logits(x, max_tokens, vocab, backend)
    units = x.new_empty(1 + entropy + sum_sq if plan == "frozen" else 0, num_tokens, hidden)
    stats = RowStats(
        x.new_empty(num_tokens, dtype=acc),
        x.new_empty(num_tokens, dtype=acc),
        x.new_empty(num_tokens, dtype=acc),
        x.new_empty(num_tokens, dtype=acc) if entropy else None,
        x.new_empty(num_tokens, dtype=acc) if sum_sq else None,
    )
    for rows in token_chunks(num_tokens, max(max_tokens, 1)):
        logits, temperature = buffer[: rows.stop - rows.start], head.temperature_of(rows)
        write_logits(logits, x[rows], targets[rows], head)
        part = passes.row_stats(logits, targets[rows], head, temperature, entropy=entropy, sum_sq=sum_sq)
        for whole, piece in zip(stats, part, strict=True):
            if whole is not None:
                whole[rows] = piece
        if plan == "frozen":
            _write_units(units[:, rows], logits, targets[rows], part, head, temperature, passes)
    return Forward(stats, buffer if cached else buffer.new_empty(0, 0), units)


def _write_units(
    units: Tensor,
    logits: Tensor,
    targets: Tensor,
    stats: RowStats,
    head: Head,
    temperature: float | Tensor,
    passes: ModuleType,
) -> None:
    """units[o] = d output_o / d x: what the backward pass then only scales."""
    one, zero = torch.ones_like(stats.logprobs), torch.zeros_like(stats.logprobs)
    wanted = [RowGrads(one)]
    if stats.entropy is not None:
        wanted.append(RowGrads(zero, entropy=one))
    if stats.sum_sq is not None:
        wanted.append(RowGrads(zero, sum_sq=one))
    for i, grads in enumerate(wanted):
        last = i == len(wanted) - 1
        dlogits = passes.write_dlogits(
            None if last else torch.empty_like(logits),
            logits,
            targets,
            stats,
            grads,
            head,
            temperature,
            units.dtype,
        )
        write_dx(units[i], dlogits, head.weight)


class Gradients(NamedTuple):
    x: Tensor | None
    weight: Slabs | None
    bias: Tensor | None


def backward(
    upstream: tuple[Tensor | None, Tensor | None, Tensor | None],
    x: Tensor,
    targets: Tensor,
    head: Head,
    saved: Forward,
    *,
    needs: tuple[bool, Tensor | None, bool],
    workspace_bytes: int,
    backend: str,
) -> Gradients:
    """Gradients of x [L, H], weight [V, H] (slabs) and bias [V], the last two in the accumulation dtype.

    Args:
        upstream: gradients [L] of logprobs, entropy and sum_sq; None is zero.
        needs: a gradient of x; the parameter [V, H] that gets one; a gradient of bias.
    """
    acc = accumulation_dtype(x.dtype)
    if saved.units.numel():
        order = [
            g
            for g, s in zip(upstream, (0, saved.stats.entropy, saved.stats.sum_sq), strict=True)
            if s is not None
        ]
        dx = x.new_zeros(x.shape, dtype=acc)
        for grad, unit in zip(order, saved.units, strict=True):
            if grad is not None:
                dx.addcmul_(grad.unsqueeze(1), clear_rows(unit.to(acc), grad == 0))
        return Gradients(dx.to(x.dtype), None, None)

    passes = row_passes(backend, x.dtype, head)
    (num_tokens, _), (vocab, _) = x.shape, head.weight.shape
    zero = torch.zeros_like(saved.stats.logprobs)
    grads = RowGrads(zero if upstream[0] is None else upstream[0], *upstream[1:])
    dx_rows = x.new_empty(x.shape) if needs[0] else None
    dweight = None if needs[1] is None else new_dweight(needs[1], acc)
    dbias = head.weight.new_zeros(vocab, dtype=acc) if needs[2] else None
    max_tokens = min(num_tokens, max_chunk_tokens(x, vocab, workspace_bytes, backend))
    buffer = new_logits(x, max_tokens, vocab, backend)
    for rows in token_chunks(num_tokens, max(max_tokens, 1)):
        logits, temperature = buffer[: rows.stop - rows.start], head.temperature_of(rows)
        if saved.logits.numel():
            out, logits = logits, saved.logits[rows]
        else:
            out = None
            write_logits(logits, x[rows], targets[rows], head)
        stats, upstream_rows = saved.stats.at(rows), grads.at(rows)
        dlogits = passes.write_dlogits(
            out, logits, targets[rows], stats, upstream_rows, head, temperature, x.dtype
        )
        dx_chunk = None if dx_rows is None else dx_rows[rows]
        add_gradients(dlogits, x[rows], head.weight, dx_chunk, dweight, dbias, idle=upstream_rows.idle())
    return Gradients(dx_rows, dweight, dbias)


def add_gradients(
    dlogits: Tensor,
    x: Tensor,
    weight: Tensor,
    dx: Tensor | None,
    dweight: Slabs | None,
    dbias: Tensor | None,
    *,
    idle: Tensor | None,
) -> None:
    """dx = dlogits @ weight; dweight += dlogits.T @ x; dbias += the column sums of dlogits.

    idle: [C] bool, rows of dlogits that are 0; None: none is.
    """
    if dx is not None:
        write_dx(dx, dlogits, weight)
    if dweight is not None:
        add_dweight(dweight, dlogits, x if idle is None else clear_rows(x, idle))
    if dbias is not None:
        dbias += dlogits.sum(0, dtype=dbias.dtype)


def clear_rows(x: Tensor, idle: Tensor) -> Tensor:
    """x [C, H] with 0 in the rows ``idle``: 0 times NaN would be NaN. Never synchronises with a GPU."""
    if x.device.type == "cpu" and not bool(idle.any()):
        return x
    return x.masked_fill(idle.unsqueeze(1), 0.0)
