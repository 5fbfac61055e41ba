"""Attention sequence by sequence with torch alone: any device and float dtype.

Axis letters: H key heads, G query heads per key head, m query tokens of a block, N keys, D head size.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SCORES = 1 << 24  # of a block of the backward pass


def forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: list[int], causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """out [T, Hq, D]; the second tensor is empty, the backward pass normalises anew."""
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()  # the layout must not choose the rounding
    # enable_gqa takes a slow path on a CPU: expand k and v to q's heads instead
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    out = q.new_empty(q.shape)
    for start, stop in pairwise(bounds):
        if start < stop:
            a, b, c = (x[start:stop].transpose(0, 1).unsqueeze(0) for x in (q, k, v))
            part = F.scaled_dot_product_attention(a, b, c, is_causal=causal, scale=scale)
            out[start:stop] = part.squeeze(0).transpose(0, 1)
    return out, q.new_empty(0, dtype=torch.float32)


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
    """By blocks of queries: the scores of a whole sequence never exist. Sums are float32 (float64)."""
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    num_kv_heads = k.shape[1]
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    dq, dk, dv = (torch.zeros(x.shape, dtype=exact, device=x.device) for x in (q, k, v))
    for start, stop in pairwise(bounds):
        keys, values = (x[start:stop].transpose(0, 1).to(exact) for x in (k, v))  # [H, N, D]
        block = max(1, MAX_SCORES // max(1, q.shape[1] * (stop - start)))
        for a in range(start, stop, block):
            b = min(a + block, stop)
            end = b if causal else stop
            seen, seen_values = keys[:, : end - start], values[:, : end - start]
            queries, upstream = (_by_key_head(x[a:b], num_kv_heads).to(exact) for x in (q, dout))
            scores = (queries @ seen.mT) * scale
            if causal:
                ones = torch.ones(b - a, end - start, dtype=torch.bool, device=q.device)
                future = ones.triu(a - start + 1)
                scores.view(num_kv_heads, -1, b - a, end - start).masked_fill_(future, -torch.inf)
            p = scores.softmax(-1)
            dp = upstream @ seen_values.mT
            ds = p * (dp - (p * dp).sum(-1, keepdim=True)) * scale
            dqueries = (ds @ seen).view(num_kv_heads, -1, b - a, q.shape[2])
            dq[a:b] = dqueries.permute(2, 0, 1, 3).flatten(1, 2)
            dk[start:end] += (ds.mT @ queries).transpose(0, 1)
            dv[start:end] += (p.mT @ upstream).transpose(0, 1)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


def _by_key_head(x: Tensor, num_kv_heads: int) -> Tensor:
    """[m, H * G, D] -> [H, G * m, D]."""
    num_tokens, num_heads, dim = x.shape
    return x.view(num_tokens, num_kv_heads, num_heads // num_kv_heads, dim).permute(1, 2, 0, 3).flatten(1, 2)
