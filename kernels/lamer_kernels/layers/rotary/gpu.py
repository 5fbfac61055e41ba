"""Triton: rotary positions and the norms of queries and keys, one program per token forward.

The backward pass has a fixed number of programs, each with its own sum of the weights' gradients: no atomics.
A head is read as three pieces: the two halves that turn into one another, and what is not rotated.
Axis letters: T tokens, A query and key heads, D head size, R half of the rotated part.
"""

import torch
import triton
import triton.language as tl

from ..._core.launch import launch

NUM_PARTIAL_SUMS = 256


@triton.jit
def _piece(ptr, offs, m):
    return tl.load(ptr + offs, mask=m, other=0.0).to(tl.float32)


@triton.jit
def _weights(q_norm_ptr, k_norm_ptr, d, is_query, m):
    """[A, piece]: the query norm's weights on query heads, the key norm's on key heads."""
    zeros = tl.zeros(m.shape, tl.int32)
    offs = zeros + d
    q = tl.load(q_norm_ptr + offs, mask=m & is_query, other=0.0).to(tl.float32)
    k = tl.load(k_norm_ptr + offs, mask=m & (is_query == 0), other=0.0).to(tl.float32)
    return q + k


@triton.jit(do_not_specialize=["T"])
def rotary_kernel(
    qkv_ptr, positions_ptr, cos_ptr, sin_ptr, q_norm_ptr, k_norm_ptr, q_ptr, k_ptr, v_ptr, factors_ptr,
    T, eps,
    H: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, R: tl.constexpr, HAS_NORM: tl.constexpr,
    BLOCK_A: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_REST: tl.constexpr, BLOCK_KV: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    position = tl.load(positions_ptr + token).to(tl.int64)
    a = tl.arange(0, BLOCK_A)[:, None]
    r = tl.arange(0, BLOCK_R)[None, :]
    is_query, in_heads = a < H, a < H + KV
    m = in_heads & (r < R)
    head = token * (H + 2 * KV) * D + a * D
    low, high = _piece(qkv_ptr, head + r, m), _piece(qkv_ptr, head + R + r, m)
    rest_r = tl.arange(0, BLOCK_REST)[None, :]
    rest_m = in_heads & (rest_r < D - 2 * R)
    rest = _piece(qkv_ptr, head + 2 * R + rest_r, rest_m)
    if HAS_NORM:
        squares = tl.sum(low * low, 1) + tl.sum(high * high, 1) + tl.sum(rest * rest, 1)
        factor = (1.0 / tl.sqrt(squares / D + eps))[:, None]
        tl.store(factors_ptr + token * (H + KV) + a, factor, mask=in_heads)
        low *= factor * _weights(q_norm_ptr, k_norm_ptr, r, is_query, m)
        high *= factor * _weights(q_norm_ptr, k_norm_ptr, R + r, is_query, m)
        rest *= factor * _weights(q_norm_ptr, k_norm_ptr, 2 * R + rest_r, is_query, rest_m)
    c = tl.load(cos_ptr + position * R + r, mask=r < R, other=0.0).to(tl.float32)
    s = tl.load(sin_ptr + position * R + r, mask=r < R, other=0.0).to(tl.float32)
    first, second = low * c - high * s, high * c + low * s
    dtype = q_ptr.dtype.element_ty
    out_q, out_k = token * H * D + a * D, token * KV * D + (a - H) * D
    is_key = in_heads & (a >= H)
    tl.store(q_ptr + out_q + r, first.to(dtype), mask=m & is_query)
    tl.store(q_ptr + out_q + R + r, second.to(dtype), mask=m & is_query)
    tl.store(q_ptr + out_q + 2 * R + rest_r, rest.to(dtype), mask=rest_m & is_query)
    tl.store(k_ptr + out_k + r, first.to(dtype), mask=m & is_key)
    tl.store(k_ptr + out_k + R + r, second.to(dtype), mask=m & is_key)
    tl.store(k_ptr + out_k + 2 * R + rest_r, rest.to(dtype), mask=rest_m & is_key)

    kv, d = tl.arange(0, BLOCK_KV)[:, None], tl.arange(0, BLOCK_D)[None, :]
    values_m = (kv < KV) & (d < D)
    values = tl.load(qkv_ptr + (token * (H + 2 * KV) + H + KV + kv) * D + d, mask=values_m)
    tl.store(v_ptr + (token * KV + kv) * D + d, values, mask=values_m)


@triton.jit(do_not_specialize=["T"])
def rotary_gradient_kernel(
    dq_ptr, dk_ptr, dv_ptr, qkv_ptr, positions_ptr, cos_ptr, sin_ptr, q_norm_ptr, k_norm_ptr, factors_ptr,
    dqkv_ptr, partial_ptr,
    T, num_programs,
    H: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, R: tl.constexpr, HAS_NORM: tl.constexpr,
    BLOCK_A: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_REST: tl.constexpr, BLOCK_KV: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """partial: [programs, 2, D], sums over tokens and heads for the query norm and the key norm."""
    program = tl.program_id(0).to(tl.int64)
    a = tl.arange(0, BLOCK_A)[:, None]
    r = tl.arange(0, BLOCK_R)[None, :]
    rest_r = tl.arange(0, BLOCK_REST)[None, :]
    is_query, in_heads = a < H, a < H + KV
    is_key = in_heads & (a >= H)
    m, rest_m = in_heads & (r < R), in_heads & (rest_r < D - 2 * R)
    kv, d = tl.arange(0, BLOCK_KV)[:, None], tl.arange(0, BLOCK_D)[None, :]
    values_m = (kv < KV) & (d < D)
    if HAS_NORM:
        w_low = _weights(q_norm_ptr, k_norm_ptr, r, is_query, m)
        w_high = _weights(q_norm_ptr, k_norm_ptr, R + r, is_query, m)
        w_rest = _weights(q_norm_ptr, k_norm_ptr, 2 * R + rest_r, is_query, rest_m)
        sum_low = tl.zeros([BLOCK_A, BLOCK_R], tl.float32)
        sum_high = tl.zeros([BLOCK_A, BLOCK_R], tl.float32)
        sum_rest = tl.zeros([BLOCK_A, BLOCK_REST], tl.float32)
    dtype = dqkv_ptr.dtype.element_ty
    token = program
    while token < T:
        position = tl.load(positions_ptr + token).to(tl.int64)
        c = tl.load(cos_ptr + position * R + r, mask=r < R, other=0.0).to(tl.float32)
        s = tl.load(sin_ptr + position * R + r, mask=r < R, other=0.0).to(tl.float32)
        out_q, out_k = token * H * D + a * D, token * KV * D + (a - H) * D
        first = _piece(dq_ptr, out_q + r, m & is_query) + _piece(dk_ptr, out_k + r, m & is_key)
        second = _piece(dq_ptr, out_q + R + r, m & is_query) + _piece(dk_ptr, out_k + R + r, m & is_key)
        rest = _piece(dq_ptr, out_q + 2 * R + rest_r, rest_m & is_query)
        rest += _piece(dk_ptr, out_k + 2 * R + rest_r, rest_m & is_key)
        low, high = first * c + second * s, second * c - first * s
        head = token * (H + 2 * KV) * D + a * D
        if HAS_NORM:
            factor = tl.load(factors_ptr + token * (H + KV) + a, mask=in_heads, other=0.0)
            x_low, x_high = _piece(qkv_ptr, head + r, m), _piece(qkv_ptr, head + R + r, m)
            x_rest = _piece(qkv_ptr, head + 2 * R + rest_r, rest_m)
            low, high, rest = low * factor, high * factor, rest * factor
            sum_low += low * x_low
            sum_high += high * x_high
            sum_rest += rest * x_rest
            low, high, rest = low * w_low, high * w_high, rest * w_rest
            products = tl.sum(low * x_low, 1) + tl.sum(high * x_high, 1) + tl.sum(rest * x_rest, 1)
            shrink = products[:, None] * factor * factor / D
            low -= shrink * x_low
            high -= shrink * x_high
            rest -= shrink * x_rest
        tl.store(dqkv_ptr + head + r, low.to(dtype), mask=m)
        tl.store(dqkv_ptr + head + R + r, high.to(dtype), mask=m)
        tl.store(dqkv_ptr + head + 2 * R + rest_r, rest.to(dtype), mask=rest_m)
        values = tl.load(dv_ptr + (token * KV + kv) * D + d, mask=values_m)
        tl.store(dqkv_ptr + (token * (H + 2 * KV) + H + KV + kv) * D + d, values, mask=values_m)
        token += num_programs
    if HAS_NORM:
        mine = partial_ptr + program * 2 * D
        for part in tl.static_range(2):
            wanted = is_query if part == 0 else is_key
            column, rest_column = tl.arange(0, BLOCK_R), tl.arange(0, BLOCK_REST)
            tl.store(mine + part * D + column, tl.sum(tl.where(wanted, sum_low, 0.0), 0), mask=column < R)
            tl.store(
                mine + part * D + R + column, tl.sum(tl.where(wanted, sum_high, 0.0), 0), mask=column < R
            )
            tl.store(
                mine + part * D + 2 * R + rest_column,
                tl.sum(tl.where(wanted, sum_rest, 0.0), 0),
                mask=rest_column < D - 2 * R,
            )


def forward(qkv, positions, cos, sin, num_kv_heads, q_norm, k_norm, eps):
    """As in ``cpu.py``."""
    T, heads, D = qkv.shape
    num_heads = heads - 2 * num_kv_heads
    q, k, v = (qkv.new_empty(T, n, D) for n in (num_heads, num_kv_heads, num_kv_heads))
    has_norm = q_norm is not None
    factors = qkv.new_empty(T if has_norm else 0, num_heads + num_kv_heads, dtype=torch.float32)
    launch(
        rotary_kernel, T, qkv, positions, cos, sin, q_norm, k_norm, q, k, v, factors, T, eps,
        **constants(num_heads, num_kv_heads, D, cos.shape[1], has_norm),
    )  # fmt: skip
    return q, k, v, factors


def backward(dq, dk, dv, qkv, positions, cos, sin, q_norm, k_norm, factors):
    T, D = len(qkv), qkv.shape[2]
    has_norm = q_norm is not None
    programs = max(1, min(T, NUM_PARTIAL_SUMS))
    dqkv = qkv.new_empty(qkv.shape)
    partial = qkv.new_empty(programs, 2, D if has_norm else 0, dtype=torch.float32)
    launch(
        rotary_gradient_kernel, programs, dq, dk, dv, qkv, positions, cos, sin, q_norm, k_norm, factors, dqkv,
        partial, T, programs, **constants(dq.shape[1], dk.shape[1], D, cos.shape[1], has_norm),
    )  # fmt: skip
    return dqkv, partial[:, 0].sum(0), partial[:, 1].sum(0)


def constants(num_heads: int, num_kv_heads: int, D: int, R: int, has_norm: bool) -> dict:
    power = triton.next_power_of_2
    block_a, block_r = power(num_heads + num_kv_heads), power(max(R, 1))
    return {
        "H": num_heads, "KV": num_kv_heads, "D": D, "R": R, "HAS_NORM": has_norm, "BLOCK_A": block_a,
        "BLOCK_R": block_r, "BLOCK_REST": power(max(D - 2 * R, 1)), "BLOCK_KV": power(num_kv_heads),
        "BLOCK_D": power(D), "num_warps": 8 if block_a * block_r >= 4096 else 4,
    }  # fmt: skip
