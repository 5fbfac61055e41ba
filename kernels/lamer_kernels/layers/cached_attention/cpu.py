"""Attention over a cache of slots on a CPU: each new token attends to its own slot up to its own position.

No padding, no mask, no gather; chunks of prompts go with decoding rows in one pass. Arithmetic is float32,
memory is in the tensors' dtype.
Axis letters: N new tokens, H key heads, G query heads per key head, D head size.
"""

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import as_numpy, fma, jit, load, store
from ..attention.cpu import softmax
from .reference import BLOCK


def forward(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor,
    cu_seqlens: Tensor, scale: float,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(q)
    _attend(
        as_numpy(q), as_numpy(k), as_numpy(v), as_numpy(keys), as_numpy(values), slots.numpy(),
        positions.numpy(), np.float32(scale), as_numpy(out),
    )  # fmt: skip
    return out


@jit
def _attend(q, k, v, keys, values, slots, positions, scale, out):
    """q [N, H * G, D], k, v [N, H, D] -> out [N, H * G, D]; k and v go into the cache first."""
    (N, H, D), G = k.shape, q.shape[1] // k.shape[1]
    longest = 0
    for n in range(N):
        slot, at = slots[n], positions[n]
        if slot < 0:
            continue
        longest = max(longest, at + 1)
        for h in range(H):
            for d in range(D):
                keys[slot, h, at // BLOCK, d, at % BLOCK] = k[n, h, d]
                values[slot, h, at, d] = v[n, h, d]
    head = np.zeros((G, D), np.float32)
    room = (longest + BLOCK - 1) // BLOCK * BLOCK
    scores, weights, totals = np.zeros((G, room), np.float32), np.zeros((G, room), np.float32), np.zeros(G)
    for n in range(N):
        slot, seen = slots[n], positions[n] + 1
        if slot < 0:
            out[n] = 0
            continue
        for h in range(H):
            for g in range(G):
                for d in range(D):
                    head[g, d] = load(q[n, h * G + g, d])
            _score(head, keys[slot, h], seen, scores)
            for g in range(G):
                totals[g] = softmax(scores[g], seen, seen, scale, weights[g])[1]
            _weighted_mean(weights, values[slot, h], seen, totals, head)
            for g in range(G):
                for d in range(D):
                    out[n, h * G + g, d] = store(head[g, d], out[n, h * G + g, d])


@jit
def _score(q, keys, num_tokens, scores):
    """scores [G, tokens] = q [G, D] . keys [blocks, D, BLOCK]; entries after `num_tokens` are leftovers."""
    G, D = q.shape
    whole = D // 8 * 8
    for block in range((num_tokens + BLOCK - 1) // BLOCK):
        k = keys[block]
        for g in range(G):
            s = scores[g, block * BLOCK : (block + 1) * BLOCK]
            for j in range(BLOCK):
                s[j] = 0
            for d in range(0, whole, 8):
                q0, q1, q2, q3 = q[g, d], q[g, d + 1], q[g, d + 2], q[g, d + 3]
                q4, q5, q6, q7 = q[g, d + 4], q[g, d + 5], q[g, d + 6], q[g, d + 7]
                for j in range(BLOCK):
                    low = fma(q0, load(k[d, j]), fma(q1, load(k[d + 1, j]), s[j]))
                    high = fma(q2, load(k[d + 2, j]), q3 * load(k[d + 3, j]))
                    low = fma(q4, load(k[d + 4, j]), fma(q5, load(k[d + 5, j]), low))
                    high = fma(q6, load(k[d + 6, j]), fma(q7, load(k[d + 7, j]), high))
                    s[j] = low + high
            for d in range(whole, D):
                for j in range(BLOCK):
                    s[j] = fma(q[g, d], load(k[d, j]), s[j])


@jit
def _weighted_mean(weights, values, num_tokens, totals, out):
    """out [G, D] = weights [G, tokens] . values [tokens, D] / totals [G]."""
    G, D = out.shape
    out[:] = 0
    whole = num_tokens // 4 * 4
    for t in range(0, whole, 4):
        v0, v1, v2, v3 = values[t], values[t + 1], values[t + 2], values[t + 3]
        for g in range(G):
            w0, w1, w2, w3 = weights[g, t], weights[g, t + 1], weights[g, t + 2], weights[g, t + 3]
            for d in range(D):
                low = fma(w0, load(v0[d]), fma(w1, load(v1[d]), out[g, d]))
                out[g, d] = low + fma(w2, load(v2[d]), w3 * load(v3[d]))
    for t in range(whole, num_tokens):
        for g in range(G):
            for d in range(D):
                out[g, d] = fma(weights[g, t], load(values[t, d]), out[g, d])
    for g in range(G):
        factor = np.float32(1.0) / np.float32(totals[g])
        for d in range(D):
            out[g, d] *= factor
