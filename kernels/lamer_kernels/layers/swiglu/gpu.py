"""Triton: the gated activation, one program per row and block of columns. Axis letters: T rows, F columns."""

import triton
import triton.language as tl

from ..._core.launch import launch

BLOCK_F = 1024


@triton.jit(do_not_specialize=["T"])
def swiglu_kernel(gate_up_ptr, out_ptr, T, F, BLOCK_F: tl.constexpr):
    program, num_blocks = tl.program_id(0).to(tl.int64), tl.cdiv(F, BLOCK_F)
    row = program // num_blocks
    offs = program % num_blocks * BLOCK_F + tl.arange(0, BLOCK_F)
    m = offs < F
    gate = tl.load(gate_up_ptr + row * 2 * F + offs, mask=m, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * F + F + offs, mask=m, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * F + offs, (gate * tl.sigmoid(gate) * up).to(out_ptr.dtype.element_ty), mask=m)


@triton.jit(do_not_specialize=["T"])
def swiglu_gradient_kernel(gate_up_ptr, dout_ptr, dgate_up_ptr, T, F, BLOCK_F: tl.constexpr):
    program, num_blocks = tl.program_id(0).to(tl.int64), tl.cdiv(F, BLOCK_F)
    row = program // num_blocks
    offs = program % num_blocks * BLOCK_F + tl.arange(0, BLOCK_F)
    m = offs < F
    gate = tl.load(gate_up_ptr + row * 2 * F + offs, mask=m, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * 2 * F + F + offs, mask=m, other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + row * F + offs, mask=m, other=0.0).to(tl.float32)
    p = tl.sigmoid(gate)
    dtype = dgate_up_ptr.dtype.element_ty
    tl.store(dgate_up_ptr + row * 2 * F + offs, (dout * up * p * (1.0 + gate * (1.0 - p))).to(dtype), mask=m)
    tl.store(dgate_up_ptr + row * 2 * F + F + offs, (dout * gate * p).to(dtype), mask=m)


def forward(gate_up):
    T, F = len(gate_up), gate_up.shape[1] // 2
    out = gate_up.new_empty(T, F)
    launch(swiglu_kernel, T * triton.cdiv(F, BLOCK_F), gate_up, out, T, F, BLOCK_F=BLOCK_F)
    return out


def backward(dout, gate_up):
    T, F = dout.shape
    dgate_up = gate_up.new_empty(gate_up.shape)
    programs = T * triton.cdiv(F, BLOCK_F)
    launch(swiglu_gradient_kernel, programs, gate_up, dout, dgate_up, T, F, BLOCK_F=BLOCK_F)
    return dgate_up
