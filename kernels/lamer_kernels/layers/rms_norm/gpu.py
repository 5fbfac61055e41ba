"""Triton: one program per row forward; backward a fixed number of programs, each with its own sum of dweight.

No atomics: the partial sums are added in order by the caller. Axis letters: T rows, H row length.
"""

import torch
import triton
import triton.language as tl

from ..._core.launch import launch

NUM_PARTIAL_SUMS = 256


@triton.jit(do_not_specialize=["T"])
def norm_kernel(
    x_ptr, update_ptr, weight_ptr, total_ptr, out_ptr, factors_ptr,
    T, H, eps,
    HAS_UPDATE: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    offs = tl.arange(0, BLOCK_H)
    m = offs < H
    x = tl.load(x_ptr + row * H + offs, mask=m, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        x += tl.load(update_ptr + row * H + offs, mask=m, other=0.0).to(tl.float32)
        total = x.to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + row * H + offs, total, mask=m)
        x = total.to(tl.float32)
    factor = 1.0 / tl.sqrt(tl.sum(x * x) / H + eps)
    weight = tl.load(weight_ptr + offs, mask=m, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * H + offs, (x * factor * weight).to(out_ptr.dtype.element_ty), mask=m)
    tl.store(factors_ptr + row, factor)


@triton.jit(do_not_specialize=["T"])
def norm_gradient_kernel(
    x_ptr, weight_ptr, factors_ptr, dout_ptr, dtotal_ptr, dx_ptr, partial_ptr,
    T, H, num_programs,
    HAS_DTOTAL: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    offs = tl.arange(0, BLOCK_H)
    m = offs < H
    weight = tl.load(weight_ptr + offs, mask=m, other=0.0).to(tl.float32)
    dweight = tl.zeros([BLOCK_H], tl.float32)
    row = program
    while row < T:
        x = tl.load(x_ptr + row * H + offs, mask=m, other=0.0).to(tl.float32)
        factor = tl.load(factors_ptr + row)
        scaled = tl.load(dout_ptr + row * H + offs, mask=m, other=0.0).to(tl.float32) * factor
        dweight += scaled * x
        g = scaled * weight
        dx = g - x * (tl.sum(g * x) * factor * factor / H)
        if HAS_DTOTAL:
            dx += tl.load(dtotal_ptr + row * H + offs, mask=m, other=0.0).to(tl.float32)
        tl.store(dx_ptr + row * H + offs, dx.to(dx_ptr.dtype.element_ty), mask=m)
        row += num_programs
    tl.store(partial_ptr + program * H + offs, dweight, mask=m)


def forward(x, update, weight, eps):
    """As in ``cpu.py``."""
    T, H = x.shape
    total = x if update is None else x.new_empty(x.shape)
    out, factors = x.new_empty(x.shape), x.new_empty(T, dtype=torch.float32)
    launch(
        norm_kernel, T, x, update, weight, total, out, factors, T, H, eps,
        HAS_UPDATE=update is not None, **blocks(H),
    )  # fmt: skip
    return total, out, factors


def backward(dout, dtotal, total, weight, factors):
    T, H = total.shape
    programs = max(1, min(T, NUM_PARTIAL_SUMS))
    dx, partial = total.new_empty(total.shape), total.new_empty(programs, H, dtype=torch.float32)
    launch(
        norm_gradient_kernel, programs, total, weight, factors, dout, dtotal, dx, partial, T, H, programs,
        HAS_DTOTAL=dtotal is not None, **blocks(H),
    )  # fmt: skip
    return dx, partial.sum(0)


def blocks(H: int) -> dict[str, int]:
    block = triton.next_power_of_2(H)
    return {"BLOCK_H": block, "num_warps": 16 if block >= 8192 else 8 if block >= 2048 else 4}
