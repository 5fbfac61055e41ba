"""Rotary positions and the norms of queries and keys on a CPU, in one pass over qkv.

Arithmetic is float32, memory is in the tensor's dtype; gradients of the norms' weights are summed in float32,
per head and then over heads. Axis letters: T tokens, A heads, D head size.
"""

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import LANES, as_numpy, fma, jit, load, store, sum_of_squares, weight_as_numpy
from ..rms_norm.cpu import dot


def forward(
    qkv: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, num_kv_heads: int,
    q_norm: Tensor | None, k_norm: Tensor | None, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """q, k, v and the factors of the norms, [T, query and key heads] float32 (empty without norms)."""
    T, heads, D = qkv.shape
    num_heads = heads - 2 * num_kv_heads
    q, k, v = (qkv.new_empty(T, n, D) for n in (num_heads, num_kv_heads, num_kv_heads))
    rows = T if q_norm is not None else 0
    factors = torch.empty(rows, num_heads + num_kv_heads, dtype=torch.float32, device="cpu")
    _forward(
        as_numpy(qkv), given(qkv, q_norm), given(qkv, k_norm), cos.numpy(), sin.numpy(), positions.numpy(),
        np.float32(eps), as_numpy(q), as_numpy(k), as_numpy(v), factors.numpy(),
    )  # fmt: skip
    return q, k, v, factors


def backward(
    dq: Tensor, dk: Tensor, dv: Tensor, qkv: Tensor, positions: Tensor, cos: Tensor, sin: Tensor,
    q_norm: Tensor | None, k_norm: Tensor | None, factors: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dqkv, and the gradients of the norms' weights, [D] float32 (empty without norms)."""
    num_heads, num_kv_heads, D = dq.shape[1], dk.shape[1], qkv.shape[2]
    dqkv = qkv.new_empty(qkv.shape)
    per_head = torch.zeros(num_heads + num_kv_heads, D if q_norm is not None else 0, dtype=torch.float32)
    tables = cos.numpy(), sin.numpy(), positions.numpy(), factors.numpy()
    x, dx, dweight = as_numpy(qkv), as_numpy(dqkv), per_head.numpy()
    _rotate_gradient(x, 0, given(qkv, q_norm), *tables, as_numpy(dq), dx, dweight)
    _rotate_gradient(x, num_heads, given(qkv, k_norm), *tables, as_numpy(dk), dx, dweight)
    dqkv[:, num_heads + num_kv_heads :] = dv
    return dqkv, per_head[:num_heads].sum(0), per_head[num_heads:].sum(0)


def given(like: Tensor, weight: Tensor | None) -> np.ndarray:
    return as_numpy(like.new_empty(0)) if weight is None else weight_as_numpy(weight)


@jit
def _forward(qkv, q_norm, k_norm, cos, sin, positions, eps, q, k, v, factors):
    _rotate(qkv, 0, q_norm, cos, sin, positions, eps, q, factors)
    _rotate(qkv, q.shape[1], k_norm, cos, sin, positions, eps, k, factors)
    for n in range(len(v)):
        v[n] = qkv[n, q.shape[1] + k.shape[1] :]


@jit
def _rotate(qkv, first, weight, cos, sin, positions, eps, out, factors):
    """out [T, A, D] = rotary(rms_norm(qkv[:, first : first + A]) * weight); weight [D]; [0] is no norm."""
    A, D = out.shape[1:]
    half = cos.shape[1]
    lanes = np.zeros(LANES, np.float32)
    y = np.zeros(D, np.float32)
    for n in range(len(out)):
        c, s = cos[positions[n]], sin[positions[n]]
        for a in range(A):
            x = qkv[n, first + a]
            if len(weight) == 0:
                for d in range(D):
                    y[d] = load(x[d])
            else:
                factor = np.float32(1.0) / np.sqrt(sum_of_squares(x, lanes) / np.float32(D) + eps)
                factors[n, first + a] = factor
                for d in range(D):
                    y[d] = load(x[d]) * factor * load(weight[d])
            for d in range(half):
                out[n, a, d] = store(y[d] * c[d] - y[d + half] * s[d], x[d])
            for d in range(half):
                out[n, a, d + half] = store(y[d + half] * c[d] + y[d] * s[d], x[d])
            for d in range(2 * half, D):
                out[n, a, d] = store(y[d], x[d])


@jit
def _rotate_gradient(qkv, first, weight, cos, sin, positions, factors, dout, dqkv, dweight):
    """dqkv at heads `first` to `first + A` = gradient of `_rotate`; adds to dweight [heads, D] float32."""
    A, D = dout.shape[1:]
    half = cos.shape[1]
    lanes = np.zeros(LANES, np.float32)
    g = np.zeros(D, np.float32)
    for n in range(len(dout)):
        c, s = cos[positions[n]], sin[positions[n]]
        for a in range(A):
            x, dy, dx = qkv[n, first + a], dout[n, a], dqkv[n, first + a]
            for d in range(half):
                g[d] = load(dy[d]) * c[d] + load(dy[d + half]) * s[d]
            for d in range(half):
                g[d + half] = load(dy[d + half]) * c[d] - load(dy[d]) * s[d]
            for d in range(2 * half, D):
                g[d] = load(dy[d])
            if len(weight) == 0:
                for d in range(D):
                    dx[d] = store(g[d], x[d])
                continue
            factor = factors[n, first + a]
            for d in range(D):
                scaled = g[d] * factor
                dweight[first + a, d] = fma(scaled, load(x[d]), dweight[first + a, d])
                g[d] = scaled * load(weight[d])
            shrink = dot(g, x, lanes) * factor * factor / np.float32(D)
            for d in range(D):
                dx[d] = store(fma(-shrink, load(x[d]), g[d]), x[d])
