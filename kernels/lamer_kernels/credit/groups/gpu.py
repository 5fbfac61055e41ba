"""Triton: moments of the segments of sorted rows, one lane per segment; sorting is the vendor's.

Each lane adds up its rows in order, so that two runs give equal bits; no atomics.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.launch import launch
from ..anchors.gpu import changes, lexsort, offsets
from .reference import divide

BLOCK_S = 128


@triton.jit(do_not_specialize=["num_segments"])
def moments_kernel(
    x_ptr, order_ptr, share_ptr, new_unit_ptr, starts_ptr, first_ptr, total_ptr, units_ptr, squares_ptr,
    num_segments,
    SQUARES: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    segment = tl.program_id(0).to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)
    m = segment < num_segments
    start = tl.load(starts_ptr + segment, mask=m, other=0)
    length = tl.load(starts_ptr + segment + 1, mask=m, other=0) - start
    longest = tl.max(length, 0)
    some = length > 0
    first = tl.load(x_ptr + tl.load(order_ptr + start, mask=some, other=0), mask=some, other=0.0).to(
        tl.float64
    )
    total = tl.zeros([BLOCK_S], tl.float64)
    units = tl.zeros([BLOCK_S], tl.float64)
    t = longest * 0
    while t < longest:
        live = t < length
        row = tl.load(order_ptr + start + t, mask=live, other=0)
        d = tl.load(x_ptr + row, mask=live, other=0.0).to(tl.float64) - first
        share = tl.load(share_ptr + start + t, mask=live, other=0.0)
        total += tl.where(live, share * d, 0.0)
        units += tl.load(new_unit_ptr + start + t, mask=live, other=0).to(tl.float64)
        t += 1
    tl.store(first_ptr + segment, first, mask=m)
    tl.store(total_ptr + segment, total, mask=m)
    tl.store(units_ptr + segment, units, mask=m)
    if SQUARES:
        mean = total / tl.where(units > 0, units, 1.0)
        squares = tl.zeros([BLOCK_S], tl.float64)
        t = longest * 0
        while t < longest:
            live = t < length
            row = tl.load(order_ptr + start + t, mask=live, other=0)
            d = tl.load(x_ptr + row, mask=live, other=0.0).to(tl.float64) - first - mean
            share = tl.load(share_ptr + start + t, mask=live, other=0.0)
            squares += tl.where(live, share * d * d, 0.0)
            t += 1
        tl.store(squares_ptr + segment, squares, mask=m)


def group_advantages(
    scores: Tensor, group: Tensor, trial: Tensor | None, episode: Tensor | None, include: Tensor | None,
    stats_unit: str, baseline: str, scale: str, singleton: str, eps: float,
) -> Tensor:  # fmt: skip
    if len(scores) == 0:
        return scores.new_empty(0)
    keys = [group] if include is None else [include.to(torch.uint8), group]  # excluded rows sort apart
    unit_keys = keys + [trial, episode][: {"turn": 0, "trial": 1, "episode": 2}[stats_unit]]
    order = lexsort(*unit_keys)
    segment, starts = offsets(changes(order, *keys))
    share = torch.ones(len(order), dtype=torch.float64, device=order.device)
    new_unit = torch.ones_like(order, dtype=torch.bool)
    if stats_unit != "turn":
        new_unit = changes(order, *unit_keys)
        unit, unit_starts = offsets(new_unit)
        share /= (unit_starts[unit + 1] - unit_starts[unit]).double()

    def per_row(starts: Tensor, segment: Tensor, squares: bool) -> tuple[Tensor, ...]:
        return tuple(x[segment] for x in _moments(scores, order, share, new_unit, starts, squares))

    first, total, n, squares = per_row(starts, segment, scale == "std")
    s = scores[order].double()
    d = s - first
    others = (n - 1).clamp(min=1)
    if baseline == "mean":
        out = d - total / n
    elif stats_unit == "turn":
        out = d - (total - d) / others
    else:
        unit_first, unit_total, _, _ = per_row(unit_starts, unit, False)
        out = d - (total - (unit_first - first + unit_total)) / others
    # of one score that is not finite the others would be infinitely far
    out = torch.where(total.isfinite(), out, float("nan"))
    if scale == "std":
        out = divide(out, squares / others, eps)
    out = torch.where(n > 1, out, 0 if singleton == "zero" else s)
    if include is not None:
        out = torch.where(include[order], out, 0)
        new_unit = new_unit & include[order]
    if scale == "batch_std":
        variance = (share * out * out).sum() / (new_unit.sum() - 1).clamp(min=1)
        out = divide(out, variance, eps)
    result = scores.new_empty(scores.shape)
    result[order] = out.to(scores.dtype)
    return result


def _moments(
    x: Tensor, order: Tensor, share: Tensor, new_unit: Tensor, starts: Tensor, squares: bool
) -> tuple[Tensor, ...]:
    """(first value, sum of share x distance from it, units, sum of share x squared deviation), each [R]."""
    outputs = [torch.empty_like(share) for _ in range(4)]
    if not squares:
        outputs[3].zero_()
    programs = triton.cdiv(len(x), BLOCK_S)
    launch(
        moments_kernel, programs, x, order, share, new_unit, starts, *outputs, len(x),
        SQUARES=squares, BLOCK_S=BLOCK_S,
    )  # fmt: skip
    return tuple(outputs)
