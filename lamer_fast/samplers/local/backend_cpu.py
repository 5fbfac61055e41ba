# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc,type-arg,untyped-decorator"
"""The decoder's backend on a CPU: numba kernels for all but the matrix products.

The attention kernel norms and rotates queries and keys, writes keys and values into the cache and attends
each new token to its own slot up to its own position: no padding, no mask, no gather, and prompt chunks go
with decoding rows in one pass. Arithmetic is float32, memory is in the model's dtype (bfloat16 as the upper
16 bits of a float32, in an int16).

Keys are stored in blocks of 64 tokens, transposed, so that scores are sums over whole vectors of tokens: half
the time of one dot product per token.

Axis letters: N new tokens, H key heads, G query heads per key head, D head size.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.samplers.local.backend import KVCache, Layer, Rows, Shape
from lamer_kernels._core.numba_math import LANES, as_numpy, exp, fma, jit, load, store, sum_of_squares

BLOCK = 64  # tokens of a key block


class CpuBackend:
    """`Backend` for float32 and bfloat16 models whose head size is a multiple of 8."""

    ragged = True

    def __init__(self, shape: Shape, cos: Tensor, sin: Tensor) -> None:
        self.shape = shape
        half = shape.head_size // 2
        self._cos = cos[:, :half].float().contiguous().numpy()
        self._sin = sin[:, :half].float().contiguous().numpy()
        self._num_blocks = -(-len(cos) // BLOCK)
        group = shape.num_heads // shape.num_kv_heads
        self._head = np.zeros((group, shape.head_size), np.float32)
        self._scores = np.zeros((group, self._num_blocks * BLOCK + 1), np.float32)
        self._lanes = np.zeros(LANES, np.float32)
        self._eps, self._scale = np.float32(shape.eps), np.float32(shape.head_size**-0.5)

    def new_cache(self, num_slots: int, num_layers: int) -> KVCache:
        """Keys [slots, H, blocks, D, 64], values [slots, H, blocks * 64, D]."""
        s, blocks = self.shape, self._num_blocks
        dtype = np.int16 if s.dtype == torch.bfloat16 else np.float32
        keys = (num_slots, s.num_kv_heads, blocks, s.head_size, BLOCK)
        values = (num_slots, s.num_kv_heads, blocks * BLOCK, s.head_size)
        layers = range(num_layers)
        return KVCache([np.zeros(keys, dtype) for _ in layers], [np.zeros(values, dtype) for _ in layers])

    def begin(self, rows: Rows, positions: NDArray[np.int64]) -> None:
        self._slots = np.repeat(rows.slots, rows.counts)
        self._positions = positions

    def norm(self, x: Tensor, weight: Tensor, update: Tensor | None = None) -> Tensor:
        out = torch.empty_like(x)
        if update is None:
            _norm(as_numpy(x), as_numpy(weight), self._eps, self._lanes, as_numpy(out))
        else:
            _add_norm(as_numpy(x), as_numpy(update), as_numpy(weight), self._eps, self._lanes, as_numpy(out))
        return out

    def attend(self, layer: Layer, qkv: Tensor, keys: Any, values: Any) -> Tensor:
        s = self.shape
        out = qkv.new_empty(len(qkv), s.num_heads * s.head_size)
        nothing = qkv[0, :0]
        _attend(
            as_numpy(qkv),
            as_numpy(nothing if layer.q_norm is None else layer.q_norm),
            as_numpy(nothing if layer.k_norm is None else layer.k_norm),
            (self._cos, self._sin),
            keys,
            values,
            self._slots,
            self._positions,
            (self._head, self._scores, self._lanes),
            as_numpy(out),
            self._eps,
            self._scale,
        )
        return out

    def gate(self, gate_up: Tensor) -> Tensor:
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        _gate(as_numpy(gate_up), as_numpy(out))
        return out


@jit
def _norm(x, weight, eps, lanes, out):
    """out [N, H] = rms_norm(x) * weight."""
    for n in range(len(x)):
        mean = sum_of_squares(x[n], lanes) / np.float32(len(weight))
        factor = np.float32(1.0) / np.sqrt(mean + eps)
        for i in range(len(weight)):
            out[n, i] = store(load(x[n, i]) * factor * load(weight[i]), x[n, i])


@jit
def _add_norm(x, update, weight, eps, lanes, out):
    """x += update; out = rms_norm(x) * weight."""
    for n in range(len(x)):
        for i in range(len(weight)):
            x[n, i] = store(load(x[n, i]) + load(update[n, i]), x[n, i])
    _norm(x, weight, eps, lanes, out)


@jit
def _gate(gate_up, out):
    """out [N, F] = silu(gate_up[:, :F]) * gate_up[:, F:]."""
    F = out.shape[1]
    for n in range(len(out)):
        gates, ups, y = gate_up[n, :F], gate_up[n, F:], out[n]  # rows, else the loop is not vectorised
        for i in range(F):
            x = load(gates[i])
            y[i] = store(x / (np.float32(1.0) + exp(-x)) * load(ups[i]), y[i])


@jit
def _norm_rotate(x, weight, cos, sin, eps, scale, lanes, y):
    """y [D] = rotary(rms_norm(x)) * scale; without weight, no norm."""
    D = x.shape[0]
    half = D // 2
    if len(weight) == 0:
        for d in range(D):
            y[d] = load(x[d]) * scale
    else:
        factor = scale / np.sqrt(sum_of_squares(x, lanes) / np.float32(D) + eps)
        for d in range(D):
            y[d] = load(x[d]) * factor * load(weight[d])
    for d in range(half):
        a, b = y[d], y[d + half]
        y[d] = a * cos[d] - b * sin[d]
        y[d + half] = b * cos[d] + a * sin[d]


@jit
def _score(q, keys, num_tokens, scores):
    """scores [G, tokens] = q [G, D] . keys [blocks, D, BLOCK]; entries after `num_tokens` are leftovers."""
    G, D = q.shape
    for block in range((num_tokens + BLOCK - 1) // BLOCK):
        k = keys[block]
        for g in range(G):
            s = scores[g, block * BLOCK : (block + 1) * BLOCK]
            for j in range(BLOCK):
                s[j] = 0
            for d in range(0, D, 8):
                q0, q1, q2, q3 = q[g, d], q[g, d + 1], q[g, d + 2], q[g, d + 3]
                q4, q5, q6, q7 = q[g, d + 4], q[g, d + 5], q[g, d + 6], q[g, d + 7]
                for j in range(BLOCK):
                    low = fma(q0, load(k[d, j]), fma(q1, load(k[d + 1, j]), s[j]))
                    high = fma(q2, load(k[d + 2, j]), q3 * load(k[d + 3, j]))
                    low = fma(q4, load(k[d + 4, j]), fma(q5, load(k[d + 5, j]), low))
                    high = fma(q6, load(k[d + 6, j]), fma(q7, load(k[d + 7, j]), high))
                    s[j] = low + high


@jit
def _softmax(scores, num_tokens, lanes):
    """exp(score - largest) over the first `num_tokens` of a row, in place; their sum as the last entry."""
    whole = num_tokens // LANES * LANES
    for g in range(len(scores)):
        s = scores[g]
        lanes[:] = s[0]
        for t in range(0, whole, LANES):
            for j in range(LANES):
                lanes[j] = s[t + j] if s[t + j] > lanes[j] else lanes[j]
        top = s[0]
        for j in range(LANES):
            top = max(top, lanes[j])
        for t in range(whole, num_tokens):
            top = max(top, s[t])

        lanes[:] = 0
        for t in range(0, whole, LANES):
            for j in range(LANES):
                s[t + j] = exp(s[t + j] - top)
                lanes[j] += s[t + j]
        total = np.float32(0.0)
        for j in range(LANES):
            total += lanes[j]
        for t in range(whole, num_tokens):
            s[t] = exp(s[t] - top)
            total += s[t]
        s[-1] = total


@jit
def _weighted_mean(scores, values, num_tokens, out):
    """out [G, D] = scores [G, tokens] . values [tokens, D] / scores[:, -1]."""
    G, D = out.shape
    out[:] = 0
    whole = num_tokens // 4 * 4
    for t in range(0, whole, 4):
        v0, v1, v2, v3 = values[t], values[t + 1], values[t + 2], values[t + 3]
        for g in range(G):
            w0, w1, w2, w3 = scores[g, t], scores[g, t + 1], scores[g, t + 2], scores[g, t + 3]
            for d in range(D):
                low = fma(w0, load(v0[d]), fma(w1, load(v1[d]), out[g, d]))
                out[g, d] = low + fma(w2, load(v2[d]), w3 * load(v3[d]))
    for t in range(whole, num_tokens):
        for g in range(G):
            for d in range(D):
                out[g, d] = fma(scores[g, t], load(values[t, d]), out[g, d])
    for g in range(G):
        factor = np.float32(1.0) / scores[g, -1]
        for d in range(D):
            out[g, d] *= factor


@jit
def _attend(qkv, q_norm, k_norm, rotary, keys, values, slots, positions, scratch, out, eps, scale):
    """qkv [N, (H * G + 2 H) * D] -> out [N, H * G * D].

    rotary: cos, sin; scratch: head [G, D], scores [G, tokens + 1], lanes [LANES].
    """
    (cos, sin), (head, scores, lanes) = rotary, scratch
    H, (G, D) = values.shape[1], head.shape
    for n in range(len(slots)):
        slot, at = slots[n], positions[n]
        block, lane = at // BLOCK, at % BLOCK
        for h in range(H):
            k = (H * G + h) * D
            _norm_rotate(qkv[n, k : k + D], k_norm, cos[at], sin[at], eps, np.float32(1.0), lanes, head[0])
            for d in range(D):
                keys[slot, h, block, d, lane] = store(head[0, d], qkv[0, 0])
            v = k + H * D
            values[slot, h, at] = qkv[n, v : v + D]
    for n in range(len(slots)):
        slot, at = slots[n], positions[n]
        for h in range(H):
            for g in range(G):
                q = (h * G + g) * D
                _norm_rotate(qkv[n, q : q + D], q_norm, cos[at], sin[at], eps, scale, lanes, head[g])
            _score(head, keys[slot, h], at + 1, scores)
            _softmax(scores, at + 1, lanes)
            _weighted_mean(scores, values[slot, h], at + 1, head)
            for g in range(G):
                q = (h * G + g) * D
                for d in range(D):
                    out[n, q + d] = store(head[g, d], qkv[0, 0])
