# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc,untyped-decorator"
"""Packed attention on a CPU: batched matrix products of blocks, numba for softmax and its gradient.

Forward goes by blocks of queries and the keys that they see, backward by blocks of keys and the queries
that see them; the rest of the square is never computed.

Scores are float32; probabilities and their gradients have the dtype of the inputs. The backward pass computes
the scores anew from the stored log of the normaliser.

Axis letters: H key heads, G query heads per key head, R = G x query tokens, N keys, D head size.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import LANES, as_numpy, exp, fma, jit, load, store

MAX_BLOCK = 128  # tokens of a query block
MAX_SCORES = 1 << 22  # of a block


def forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: list[int], causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """out [T, Hq, D] and the log of the normaliser, [H, T * G] float32."""
    q, k, v = _by_key_head(q, k.shape[1]), k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()
    num_heads, num_tokens, group, dim = q.shape
    out = q.new_empty(num_tokens, num_heads * group, dim)
    lse = q.new_empty(num_heads, num_tokens * group, dtype=torch.float32)
    exact_q, exact_k, scratch = q.float(), k.float().mT, _Scratch(q, bounds)
    for start, stop, a, b in scratch.blocks():
        end = b if causal else stop
        scores, p = scratch.scores(group * (b - a), end - start)
        normaliser = lse[:, group * a : group * b]
        torch.bmm(exact_q[:, a:b].flatten(1, 2), exact_k[:, :, start:end], out=scores)
        _softmax(
            as_numpy(scores),
            a - start,
            causal,
            scale,
            as_numpy(p),
            as_numpy(normaliser),
        )
        _scatter(as_numpy(torch.bmm(p, v[:, start:end])), as_numpy(out[a:b]))
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
    q, k, v = _by_key_head(q, k.shape[1]), k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()
    num_heads, num_tokens, group, dim = q.shape
    delta = _by_key_head((dout.float() * out.float()).sum(-1, keepdim=True), num_heads).view(lse.shape)
    dout = _by_key_head(dout, num_heads)
    dq, dk, dv = torch.zeros_like(q, dtype=torch.float32), torch.empty_like(k), torch.empty_like(v)
    exact_q, exact_k, scratch = q.float(), k.float(), _Scratch(q, bounds)
    for start, stop, a, b in scratch.blocks():
        first = a if causal else start
        scores, p = scratch.scores(b - a, group * (stop - first))
        ds = scratch.gradients(p)
        queries, upstream = q[:, first:stop].flatten(1, 2), dout[:, first:stop].flatten(1, 2)
        torch.bmm(exact_k[:, a:b], exact_q[:, first:stop].flatten(1, 2).mT, out=scores)
        torch.bmm(v[:, a:b], upstream.mT, out=ds)
        normaliser, mean = (x[:, group * first : group * stop].contiguous() for x in (lse, delta))
        _softmax_gradient(
            as_numpy(scores), as_numpy(ds), group, causal, scale, as_numpy(normaliser), as_numpy(mean),
            as_numpy(p),
        )  # fmt: skip
        torch.bmm(p, upstream, out=dv[:, a:b])
        torch.bmm(ds, queries, out=dk[:, a:b])
        dq[:, first:stop].flatten(1, 2).add_(torch.bmm(ds.mT, k[:, a:b]))
    dq = dq.transpose(0, 1).reshape(num_tokens, num_heads * group, dim).to(q.dtype)
    return dq, dk.transpose(0, 1).contiguous(), dv.transpose(0, 1).contiguous()


class _Scratch:
    """Blocks of packed sequences, and memory for what is computed of one."""

    def __init__(self, q: Tensor, bounds: list[int]) -> None:
        self.num_heads, _, group, _ = q.shape
        self.bounds = bounds
        longest = max((stop - start for start, stop in pairwise(bounds)), default=0)
        per_token = self.num_heads * group * longest
        self.block = max(1, min(MAX_BLOCK, longest, MAX_SCORES // max(1, per_token)))
        self._scores = q.new_empty(self.block * per_token, dtype=torch.float32)
        self._p = self._scores if q.dtype == torch.float32 else q.new_empty(len(self._scores))
        self._ds: Tensor | None = None

    def blocks(self) -> Iterator[tuple[int, int, int, int]]:
        """(sequence from, to, block from, to), tokens."""
        for start, stop in pairwise(self.bounds):
            for a in range(start, stop, self.block):
                yield start, stop, a, min(a + self.block, stop)

    def scores(self, num_rows: int, num_columns: int) -> tuple[Tensor, Tensor]:
        """Scores and probabilities [H, rows, columns]; in float32 the same memory."""
        shape = (self.num_heads, num_rows, num_columns)
        size = self.num_heads * num_rows * num_columns
        return self._scores[:size].view(shape), self._p[:size].view(shape)

    def gradients(self, p: Tensor) -> Tensor:
        if self._ds is None:
            self._ds = torch.empty_like(self._p)
        return self._ds[: p.numel()].view(p.shape)


def _by_key_head(x: Tensor, num_kv_heads: int) -> Tensor:
    """[T, H * G, D] -> [H, T, G, D]: the rows of a block of tokens lie together."""
    num_tokens, num_heads, dim = x.shape
    return x.view(num_tokens, num_kv_heads, num_heads // num_kv_heads, dim).transpose(0, 1).contiguous()


@jit
def _softmax(scores, first, causal, scale, p, lse):
    """p [H, R, N] = softmax(scale * scores) over the keys that a row sees, else 0; lse [H, R] its normaliser.

    first: place of the first query among the keys.
    """
    num_heads, num_rows, num_keys = scores.shape
    group = num_rows // (num_keys - first) if causal else 1
    scale = np.float32(scale)
    lanes = np.zeros(LANES, np.float32)
    e = np.zeros(num_keys, np.float32)
    for h in range(num_heads):
        for r in range(num_rows):
            seen = first + r // group + 1 if causal else num_keys
            out = p[h, r]
            shift, total = exponentials(scores[h, r], seen, scale, lanes, e)
            factor = np.float32(1.0) / total
            for i in range(seen):
                out[i] = store(e[i] * factor, out[i])
            out[seen:] = 0
            lse[h, r] = shift + np.log(total)


@jit
def exponentials(scores, seen, scale, lanes, e):
    """e[:seen] = exp(scale * scores - shift) -> (shift, their sum); shift is the largest scaled score."""
    whole = seen // LANES * LANES
    lanes[:] = scores[0]
    for i in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] = scores[i + j] if scores[i + j] > lanes[j] else lanes[j]
    top = lanes[0]
    for j in range(LANES):
        top = max(top, lanes[j])
    for i in range(whole, seen):
        top = max(top, scores[i])
    shift = top * scale
    for i in range(seen):
        e[i] = exp(fma(scores[i], scale, -shift))
    lanes[:] = 0
    for i in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += e[i + j]
    total = np.float32(0.0)
    for j in range(LANES):
        total += lanes[j]
    for i in range(whole, seen):
        total += e[i]
    return shift, total


@jit
def _softmax_gradient(scores, ds, group, causal, scale, lse, delta, p):
    """p [H, N, R] = exp(scale * scores - lse), ds = p * (ds - delta) * scale; 0 where a query sees no key.

    The first query stands at the first key. lse, delta: [H, R].
    """
    num_heads, num_keys, num_rows = scores.shape
    scale = np.float32(scale)
    e = np.zeros(num_rows, np.float32)  # scores and p may be the same memory
    for h in range(num_heads):
        for n in range(num_keys):
            blind = n * group if causal else 0
            s, out, grad = scores[h, n, blind:], p[h, n, blind:], ds[h, n, blind:]
            normaliser, mean = lse[h, blind:], delta[h, blind:]
            for i in range(num_rows - blind):
                e[i] = exp(fma(s[i], scale, -normaliser[i]))
            for i in range(num_rows - blind):
                grad[i] = store(e[i] * (load(grad[i]) - mean[i]) * scale, grad[i])
                out[i] = store(e[i], out[i])
            p[h, n, :blind] = 0
            ds[h, n, :blind] = 0


@jit
def _scatter(block, out):
    """block [H, R, D] -> out [tokens, H * G, D]."""
    num_heads, num_rows, dim = block.shape
    group = out.shape[1] // num_heads
    for h in range(num_heads):
        for r in range(num_rows):
            row, target = block[h, r], out[r // group, h * group + r % group]
            for d in range(dim):
                target[d] = row[d]
