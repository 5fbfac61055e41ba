"""A layer of a decoder for few tokens: the passes of the other ops, and products by tiles, in one call.

Axis letters: N tokens, H hidden, A query heads, B key heads, D head size.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import as_numpy, jit, load, store
from ..._core.numba_tiles import ROWS, multiply
from ..cached_attention.cpu import _attend
from ..rms_norm.cpu import _add_norm
from ..rotary.cpu import _forward as _rotary
from ..rotary.cpu import given
from ..swiglu.cpu import _gate


def packed(first_norm, qkv, q_norm, k_norm, out, second_norm, gate_up, down) -> tuple[Any, ...]:
    """As `_block` takes them: weights [in, out] as stored, biases [out] float32, zeros for none."""

    def linear(weight: Tensor, bias: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        sums = torch.zeros(len(weight)) if bias is None else bias.to(torch.float32, copy=True)
        return as_numpy(weight.mT.clone(memory_format=torch.contiguous_format)), sums.numpy()

    norms = [given(first_norm, x) for x in (first_norm, second_norm, q_norm, k_norm)]
    return tuple(norms), tuple(linear(*parts) for parts in (qkv, out, gate_up, down))


def blocks(
    x: Tensor,
    layers: Sequence[tuple[Any, Tensor, Tensor, Tensor, Tensor]],
    slots: Tensor,
    positions: Tensor,
    norm: Tensor,
    num_heads: int,
    num_kv_heads: int,
    scale: float,
    eps: float,
) -> Tensor:
    hidden = torch.zeros_like(x)
    stream, update = as_numpy(x), as_numpy(hidden)
    index = slots.numpy(), positions.numpy()
    numbers = num_heads, num_kv_heads, np.float32(scale), np.float32(eps)
    for weights, cos, sin, keys, values in layers:
        cache = as_numpy(keys), as_numpy(values)
        _block(stream, update, weights, (cos.numpy(), sin.numpy()), cache, index, numbers)
    _add_norm(stream, update, stream, given(norm, norm), numbers[-1], update, np.empty(len(x), np.float32))
    return hidden


@jit
def _block(x, update, weights, tables, cache, index, numbers):
    """x [N, H] += update, then this layer's first half; update becomes what its second half adds."""
    (first_norm, second_norm, q_norm, k_norm), (qkv, out, gate_up, down) = weights
    (cos, sin), (keys, values), (slots, positions), (A, B, scale, eps) = tables, cache, index, numbers
    N, D = len(x), values.shape[3]
    normed, factors = np.empty_like(x), np.empty(N, np.float32)
    _add_norm(x, update, x, first_norm, eps, normed, factors)
    mixed = _linear(normed, *qkv).reshape(N, A + 2 * B, D)
    q, k, v = np.empty((N, A, D), x.dtype), np.empty((N, B, D), x.dtype), np.empty((N, B, D), x.dtype)
    _rotary(mixed, q_norm, k_norm, cos, sin, positions, eps, q, k, v, np.empty((N, A + B), np.float32))
    seen = np.empty_like(q)
    _attend(q, k, v, keys, values, slots, positions, scale, seen)
    update[:] = _linear(seen.reshape(N, A * D), *out)
    _add_norm(x, update, x, second_norm, eps, normed, factors)
    gated = np.empty((N, len(down[0])), x.dtype)
    _gate(_linear(normed, *gate_up), gated)
    update[:] = _linear(gated, *down)


@jit
def _linear(x, weight, bias):
    """x [N, in] @ weight [in, out] + bias [out], as stored."""
    (N, K), M = x.shape, weight.shape[1]
    rows = (N + ROWS - 1) // ROWS * ROWS
    wide, sums, out = (
        np.zeros(rows * K, np.float32),
        np.empty((rows, M), np.float32),
        np.empty((N, M), x.dtype),
    )
    for n in range(N):
        line, row = x[n], wide[n * K : (n + 1) * K]
        for i in range(K):
            row[i] = load(line[i])
    sums[:] = bias
    multiply(wide, K, 1, weight.reshape(-1), M, sums.reshape(-1), M, rows, M, K, True)
    for n in range(N):
        line, row = sums[n], out[n]
        for i in range(M):
            row[i] = store(line[i], row[i])
    return out
