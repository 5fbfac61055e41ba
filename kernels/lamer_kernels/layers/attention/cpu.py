# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc,untyped-decorator"
"""Packed attention on a CPU: a sequence and a key head at a time, whose keys and values fit in a cache.

Queries go by blocks, with the keys that they see; the rest of the square is never computed. Everything inside
is float32. The backward pass computes the scores anew from the stored log of the normaliser.

Axis letters: T tokens, N tokens of a sequence, H key heads, G query heads per key head, D head size. Rows of
a block: the query heads of its tokens, token after token.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import LANES, as_numpy, exp, fma, jit, load, store
from ..._core.numba_tiles import ROWS, largest, multiply, total

MAX_ROWS = 64  # of a block of queries; of a sequence longer than SHORT half of it
SHORT = 512


def forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: list[int], causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """out [T, Hq, D] and the log of the normaliser, [H, T * G] float32."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out = torch.empty_like(q)
    lse = q.new_empty(k.shape[1], len(q) * (q.shape[1] // k.shape[1]), dtype=torch.float32)
    arrays = [as_numpy(x) for x in (q, k, v, out, lse)]
    _by_threads(_forward, np.array(bounds), causal, np.float32(scale), *arrays)
    return out, lse


def backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bounds: list[int],
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    given = [x.contiguous() for x in (dout, q, k, v, out)]
    dq, dk, dv = (torch.empty_like(x) for x in given[1:4])
    arrays, gradients = [as_numpy(x) for x in (*given, lse)], tuple(as_numpy(x) for x in (dq, dk, dv))
    _by_threads(_backward, np.array(bounds), causal, np.float32(scale), *arrays, gradients)
    return dq, dk, dv


def _by_threads(work: Callable[..., None], *args: object) -> None:
    """Each of torch's threads takes every n-th sequence and head: no number depends on how many there are."""
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        work(0, 1, *args)
        return
    parts = [_pool(num_threads).submit(work, i, num_threads, *args) for i in range(1, num_threads)]
    work(0, num_threads, *args)
    for part in parts:
        part.result()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads - 1, "lamer-attention")


@jit
def _padded(n, size):
    return (n + size - 1) // size * size


@jit
def _tokens(G, N):
    """Of a block of queries; by its own sequence alone, so that no other one changes a sum."""
    return max(1, (MAX_ROWS if N <= SHORT else MAX_ROWS // 2) // G)


@jit
def _longest(bounds):
    longest = 0
    for s in range(len(bounds) - 1):
        longest = max(longest, bounds[s + 1] - bounds[s])
    return longest


@jit
def _forward(first, step, bounds, causal, scale, q, k, v, out, lse):
    """Of sequence s and head h where s * H + h is `first`, `first + step`, ..."""
    (H, D), G = k.shape[1:], q.shape[1] // k.shape[1]
    longest = _longest(bounds)
    width, size = _padded(D, LANES), _padded(longest, LANES)
    rows = _padded(G * min(_tokens(G, 1), longest), ROWS)
    keys, values = np.zeros(D * size, np.float32), np.zeros(size * width, np.float32)
    queries, mean = np.zeros(rows * width, np.float32), np.zeros(rows * width, np.float32)
    scores, p = np.zeros((rows, size), np.float32), np.zeros((rows, size), np.float32)
    totals = np.zeros(rows, np.float32)
    for item in range(first, (len(bounds) - 1) * H, step):
        start, stop, h = bounds[item // H], bounds[item // H + 1], item % H
        tokens = _tokens(G, stop - start)
        _columns(k[start:stop, h], keys, size)
        _lines(v[start:stop, h], values, width)
        for a in range(0, stop - start, tokens):
            b = min(a + tokens, stop - start)
            seen = b if causal else stop - start
            num, reach = G * (b - a), _padded(seen, LANES)
            M = _padded(num, ROWS)
            _take(q[start + a : start + b], h, G, queries, width)
            multiply(queries, width, 1, keys, size, scores.reshape(-1), size, M, reach, D, False)
            for r in range(num):
                sees = a + r // G + 1 if causal else seen
                shift, totals[r] = softmax(scores[r], sees, reach, scale, p[r])
                lse[h, G * (start + a) + r] = shift + np.log(totals[r])
            p[num:M, :reach] = 0
            multiply(p.reshape(-1), size, 1, values, width, mean, width, M, width, seen, False)
            for r in range(num):
                line = mean[r * width : (r + 1) * width]
                _put(line, np.float32(1.0) / totals[r], out[start + a + r // G, h * G + r % G])


@jit
def _backward(first, step, bounds, causal, scale, dout, q, k, v, out, lse, gradients):
    """Of the same sequences and heads as `_forward`."""
    dq, dk, dv = gradients
    (H, D), G = k.shape[1:], q.shape[1] // k.shape[1]
    longest = _longest(bounds)
    width, size = _padded(D, LANES), _padded(longest, LANES)
    rows = _padded(G * min(_tokens(G, 1), longest), ROWS)
    keys, values = np.zeros(D * size, np.float32), np.zeros(D * size, np.float32)
    key_lines, per_key, per_row = np.zeros(size * width, np.float32), size * width, rows * width
    dkeys, dvalues = np.zeros(per_key, np.float32), np.zeros(per_key, np.float32)
    queries, dqueries = np.zeros(per_row, np.float32), np.zeros(per_row, np.float32)
    upstream = np.zeros(per_row, np.float32)
    p, ds = np.zeros((rows, size), np.float32), np.zeros((rows, size), np.float32)
    e, products, one = np.zeros(size, np.float32), np.zeros(width, np.float32), np.float32(1.0)
    for item in range(first, (len(bounds) - 1) * H, step):
        start, stop, h = bounds[item // H], bounds[item // H + 1], item % H
        tokens = _tokens(G, stop - start)
        _columns(k[start:stop, h], keys, size)
        _columns(v[start:stop, h], values, size)
        _lines(k[start:stop, h], key_lines, width)
        dkeys[:] = 0
        dvalues[:] = 0
        for a in range(0, stop - start, tokens):
            b = min(a + tokens, stop - start)
            seen = b if causal else stop - start
            num, reach = G * (b - a), _padded(seen, LANES)
            M = _padded(num, ROWS)
            _take(q[start + a : start + b], h, G, queries, width)
            _take(dout[start + a : start + b], h, G, upstream, width)
            multiply(queries, width, 1, keys, size, p.reshape(-1), size, M, reach, D, False)
            multiply(upstream, width, 1, values, size, ds.reshape(-1), size, M, reach, D, False)
            for r in range(num):
                t, head = start + a + r // G, h * G + r % G
                delta = _dot(upstream[r * width : r * width + D], out[t, head], products)
                sees = a + r // G + 1 if causal else seen
                _slopes(p[r], ds[r], sees, reach, scale, lse[h, G * (start + a) + r], delta, e)
            p[num:M, :reach] = 0
            ds[num:M, :reach] = 0
            multiply(ds.reshape(-1), size, 1, key_lines, width, dqueries, width, M, width, seen, False)
            multiply(p.reshape(-1), 1, size, upstream, width, dvalues, width, reach, width, M, True)
            multiply(ds.reshape(-1), 1, size, queries, width, dkeys, width, reach, width, M, True)
            for r in range(num):
                _put(dqueries[r * width : (r + 1) * width], one, dq[start + a + r // G, h * G + r % G])
        for n in range(stop - start):
            _put(dkeys[n * width : (n + 1) * width], one, dk[start + n, h])
            _put(dvalues[n * width : (n + 1) * width], one, dv[start + n, h])


@jit
def softmax(scores, seen, reach, scale, p):
    """p[:seen] = exp(scale * scores - shift), 0 up to `reach` -> (shift, their sum).

    By whole vectors: what stands behind the scores is overwritten.
    """
    whole = _padded(seen, LANES)
    scores[seen:whole] = scores[0]
    shift = largest(scores, whole) * scale
    for i in range(seen):
        p[i] = exp(fma(scores[i], scale, -shift))
    p[seen : max(whole, reach)] = 0
    return shift, total(p, whole)


@jit
def _slopes(p, ds, seen, reach, scale, lse, delta, e):
    """Scores (p) become probabilities, gradients of the probabilities (ds) those of the scores."""
    for i in range(seen):
        e[i] = exp(fma(p[i], scale, -lse))
    for i in range(seen):
        ds[i] = e[i] * (ds[i] - delta) * scale
    for i in range(seen):
        p[i] = e[i]
    p[seen:reach] = 0
    ds[seen:reach] = 0


@jit
def _dot(x, y, products):
    """x float32, y as stored; products ends with zeros."""
    for i in range(len(y)):
        products[i] = x[i] * load(y[i])
    return total(products, len(products))


@jit
def _columns(x, out, size):
    """x [N, D] -> out [D, size]; zeros from N to the next full vector."""
    N, D = x.shape
    for d in range(D):
        line = out[d * size : d * size + _padded(N, LANES)]
        for n in range(N):
            line[n] = load(x[n, d])
        line[N:] = 0


@jit
def _lines(x, out, width):
    """x [N, D] -> out [N, width]"""
    for n in range(len(x)):
        _widen(x[n], out[n * width : (n + 1) * width])


@jit
def _take(x, h, G, out, width):
    """Query heads of key head h, x [tokens, H * G, D] -> out [tokens * G, width]; zeros up to whole tiles."""
    rows = len(x) * G
    for r in range(rows):
        _widen(x[r // G, h * G + r % G], out[r * width : (r + 1) * width])
    out[rows * width : _padded(rows, ROWS) * width] = 0


@jit
def _widen(x, line):
    for i in range(len(x)):
        line[i] = load(x[i])


@jit
def _put(line, factor, to):
    """to [D] = line * factor, as stored."""
    for i in range(len(to)):
        to[i] = store(line[i] * factor, to[i])
