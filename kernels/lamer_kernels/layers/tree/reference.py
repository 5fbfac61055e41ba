"""Reference: softmax(q k^T * scale) v over what each token sees, written out. Any float dtype and device."""

import torch
from torch import Tensor


def tree_attention_ref(
    q: Tensor, k: Tensor, v: Tensor, subtree_end: Tensor, *, scale: float | None = None
) -> Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    repeats = q.shape[1] // k.shape[1]
    keys, values = (x.repeat_interleave(repeats, dim=1) for x in (k, v))
    scores = torch.einsum("ihd,jhd->hij", q, keys) * scale
    at = torch.arange(len(q), device=q.device)
    seen = (at[None] <= at[:, None]) & (at[:, None] < subtree_end[None])
    scores = scores.masked_fill(~seen, -torch.inf)
    return torch.einsum("hij,jhd->ihd", scores.softmax(-1), values)
