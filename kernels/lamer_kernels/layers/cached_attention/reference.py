"""Reference: the layout of a cache of slots, and attention over it, row by row. Any dtype and device."""

from itertools import pairwise

import torch
from torch import Tensor

BLOCK = 64  # tokens of a block of keys


def new_slots(
    num_slots: int,
    num_tokens: int,
    num_kv_heads: int,
    head_size: int,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """Keys [slots, Hkv, blocks, D, BLOCK] and values [slots, Hkv, blocks * BLOCK, D], zeros.

    Keys of a block of tokens are transposed: scores are then sums over whole vectors of tokens.
    """
    blocks = -(-num_tokens // BLOCK)
    keys = torch.zeros(num_slots, num_kv_heads, blocks, head_size, BLOCK, dtype=dtype, device=device)
    values = torch.zeros(num_slots, num_kv_heads, blocks * BLOCK, head_size, dtype=dtype, device=device)
    return keys, values


def read_slot(keys: Tensor, values: Tensor, slot: int, length: int) -> tuple[Tensor, Tensor]:
    """The first `length` keys and values of a slot, [Hkv, length, D] each."""
    blocks = keys[slot].mT
    return blocks.reshape(blocks.shape[0], -1, blocks.shape[-1])[:, :length], values[slot, :, :length]


def cached_attention_ref(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    positions: Tensor,
    cu_seqlens: Tensor,
    *,
    scale: float | None = None,
) -> Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    real = slots >= 0
    slot, at = slots[real], positions[real]
    keys[slot, :, at // BLOCK, :, at % BLOCK] = k[real]
    values[slot, :, at] = v[real]
    exact = torch.promote_types(q.dtype, torch.float32)
    out = q.new_zeros(q.shape)
    for start, end in pairwise(cu_seqlens.tolist()):
        if start == end or slots[start] < 0:
            continue
        seen = positions[start:end]
        here = read_slot(keys, values, int(slots[start]), int(seen[-1]) + 1)
        all_keys, all_values = (x.to(exact) for x in here)
        queries = q[start:end].to(exact).view(end - start, k.shape[1], -1, q.shape[2])
        scores = torch.einsum("nhgd,htd->hgnt", queries, all_keys) * scale
        future = torch.arange(scores.shape[-1], device=q.device) > seen[:, None]
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)
        out[start:end] = torch.einsum("hgnt,htd->nhgd", weights, all_values).flatten(1, 2).to(q.dtype)
    return out
