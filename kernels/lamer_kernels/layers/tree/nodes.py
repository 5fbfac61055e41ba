"""Attention node by node: a node is a stretch of tokens without a branch, and sees its ancestors and itself.

Keys of ancestors are copied side by side, so a block of queries does the arithmetic of a separate sequence.
Scores and sums are float32 (float64 for float64); probabilities have the dtype of the inputs.

Axis letters: H key heads, G query heads per key head, m query tokens of a block, N keys, D head size.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

MAX_BLOCK = 128  # tokens of a query block
Span = tuple[int, int]


class Block(NamedTuple):
    """Queries of one node, and the spans of keys that they see: ancestors, then the node itself."""

    start: int
    stop: int
    keys: list[Span]


def blocks(subtree_end: Tensor) -> Iterator[Block]:
    """Raises ``ValueError`` where the ends are those of no tree."""
    path: list[Span] = []  # the ancestors of a node
    ends = [len(subtree_end)]  # of the subtrees that enclose it
    start = 0
    for end, length in zip(
        *(x.tolist() for x in torch.unique_consecutive(subtree_end, return_counts=True)), strict=True
    ):
        while ends[-1] <= start and path:
            ends.pop()
            path.pop()
        stop = start + length
        if not stop <= end <= ends[-1]:
            at = start if end > ends[-1] else max(start, end)
            raise ValueError(f"subtree_end[{at}] must lie in [{at + 1}, {ends[-1]}], got {end}")
        for a in range(start, stop, MAX_BLOCK):
            b = min(a + MAX_BLOCK, stop)
            yield Block(a, b, [*path, (start, b)])
        path.append((start, stop))
        ends.append(end)
        start = stop


def exact_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype is torch.float64 else torch.float32


def forward(q: Tensor, k: Tensor, v: Tensor, subtree_end: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """out [U, Hq, D] and the log of the normaliser, [H, U, G]."""
    exact = exact_dtype(q)
    queries, keys, values = _by_key_head(q, k.shape[1]), _heads_first(k), _heads_first(v)
    num_heads, num_tokens, group, dim = queries.shape
    exact_q, exact_k = queries.to(exact), keys.to(exact)
    out = q.new_empty(num_heads, num_tokens, group, dim)
    lse = q.new_empty(num_heads, num_tokens, group, dtype=exact)
    for block in blocks(subtree_end):
        own = slice(block.start, block.stop)
        scores = _scores(exact_q[:, own], _take(exact_k, block.keys), scale)
        normaliser = scores.logsumexp(-1, keepdim=True)
        lse[:, own] = normaliser.view(num_heads, -1, group)
        p = scores.sub_(normaliser).exp_().to(q.dtype)
        out[:, own] = torch.bmm(p, _take(values, block.keys)).view(num_heads, -1, group, dim)
    return out.transpose(0, 1).reshape(q.shape), lse


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, subtree_end: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    exact = exact_dtype(q)
    queries, keys, values = _by_key_head(q, k.shape[1]), _heads_first(k), _heads_first(v)
    upstream = _by_key_head(dout, k.shape[1])
    delta = _by_key_head((dout.to(exact) * out.to(exact)).sum(-1, keepdim=True), k.shape[1])[..., 0]
    exact_q, exact_k = queries.to(exact), keys.to(exact)
    dq, dk, dv = (torch.zeros_like(x, dtype=exact) for x in (queries, keys, values))
    for block in blocks(subtree_end):
        own = slice(block.start, block.stop)
        seen = _take(keys, block.keys)
        scores = _scores(exact_q[:, own], _take(exact_k, block.keys), scale)
        p = scores.sub_(lse[:, own].flatten(1, 2)[..., None]).exp_()
        rows, grads = queries[:, own].flatten(1, 2), upstream[:, own].flatten(1, 2)
        ds = torch.bmm(grads, _take(values, block.keys).mT).to(exact)
        ds.sub_(delta[:, own].flatten(1, 2)[..., None]).mul_(p).mul_(scale)
        p, ds = p.to(q.dtype), ds.to(q.dtype)
        dq[:, own] += torch.bmm(ds, seen).view(dq[:, own].shape)
        _add(dk, block.keys, torch.bmm(ds.mT, rows))
        _add(dv, block.keys, torch.bmm(p.mT, grads))
    dq = dq.transpose(0, 1).reshape(q.shape).to(q.dtype)
    return dq, dk.transpose(0, 1).to(k.dtype).contiguous(), dv.transpose(0, 1).to(v.dtype).contiguous()


def _scores(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """queries [H, m, G, D], keys [H, N, D] -> [H, m * G, N]; the last m keys are the queries' own."""
    num_heads, num_queries, group, _ = queries.shape
    scores = torch.bmm(queries.flatten(1, 2), keys.mT).mul_(scale)
    later = torch.ones(num_queries, num_queries, dtype=torch.bool, device=keys.device).triu_(1)
    own = scores.view(num_heads, num_queries, group, -1)[..., -num_queries:]
    own.masked_fill_(later[:, None], -torch.inf)
    return scores


def _take(x: Tensor, spans: list[Span]) -> Tensor:
    parts = [x[:, start:stop] for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _add(total: Tensor, spans: list[Span], x: Tensor) -> None:
    at = 0
    for start, stop in spans:
        total[:, start:stop] += x[:, at : at + stop - start]
        at += stop - start


def _heads_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous()


def _by_key_head(x: Tensor, num_kv_heads: int) -> Tensor:
    """[U, H * G, D] -> [H, U, G, D]"""
    num_tokens, num_heads, dim = x.shape
    return x.reshape(num_tokens, num_kv_heads, num_heads // num_kv_heads, dim).transpose(0, 1).contiguous()
