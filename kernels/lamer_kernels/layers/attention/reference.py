"""Reference: softmax(q k^T * scale) v per sequence, written out. Any float dtype; runs anywhere."""

from itertools import pairwise

import torch
from torch import Tensor


def varlen_attention_ref(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, *, causal: bool = True, scale: float | None = None
) -> Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    bounds = cu_seqlens.tolist()
    out = torch.zeros_like(q)
    for start, end in pairwise(bounds):
        repeats = q.shape[1] // k.shape[1]
        keys, values = (x[start:end].repeat_interleave(repeats, dim=1) for x in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q[start:end], keys) * scale
        if causal:
            future = torch.ones(end - start, end - start, dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(future, -torch.inf)
        out[start:end] = torch.einsum("hij,jhd->ihd", scores.softmax(-1), values)
    return out
