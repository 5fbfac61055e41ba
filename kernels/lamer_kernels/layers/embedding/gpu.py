"""Triton: the gradient of a row look-up, one program per place in the sorted ids and block of columns.

A program whose place begins a run of equal ids adds the run's rows in their order; the others leave at once.
No atomics, so the same bits each time. Axis letters: T tokens, H columns.
"""

import torch
import triton
import triton.language as tl

from ..._core.launch import launch

BLOCK_H = 512  # of one warp, so that a thread reads 16 bytes at a time


@triton.jit(do_not_specialize=["T"])
def embedding_gradient_kernel(
    sorted_ids_ptr, order_ptr, dout_ptr, dweight_ptr, T, H, BLOCK_H: tl.constexpr
):  # fmt: skip
    program, num_blocks = tl.program_id(0).to(tl.int64), tl.cdiv(H, BLOCK_H)
    place = program // num_blocks
    row = tl.load(sorted_ids_ptr + place)
    if row != tl.load(sorted_ids_ptr + place - 1, mask=place > 0, other=-1):
        offs = program % num_blocks * BLOCK_H + tl.arange(0, BLOCK_H)
        m = offs < H
        total = tl.zeros([BLOCK_H], tl.float32)
        current = row
        while current == row:
            token = tl.load(order_ptr + place)
            total += tl.load(dout_ptr + token * H + offs, mask=m, other=0.0).to(tl.float32)
            place += 1
            current = tl.load(sorted_ids_ptr + place, mask=place < T, other=-1)
        tl.store(dweight_ptr + row * H + offs, total.to(dweight_ptr.dtype.element_ty), mask=m)


def backward(dout, ids, num_rows):
    """As in ``cpu.py``."""
    T, H = dout.shape
    dweight = dout.new_zeros(num_rows, H)
    sorted_ids, order = torch.sort(ids, stable=True)
    programs = T * triton.cdiv(H, BLOCK_H)
    launch(
        embedding_gradient_kernel, programs, sorted_ids, order, dout, dweight, T, H, BLOCK_H=BLOCK_H,
        num_warps=1,
    )  # fmt: skip
    return dweight
