"""FlexAttention over a prefix tree. Which blocks of the square are seen follows from the ends alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.utils.weak import WeakTensorKeyDictionary

BLOCK = 128

_masks: Any = WeakTensorKeyDictionary()  # of the ends that every layer of a pass hands over
_compiled: list[Callable[..., Any]] = []


def attention(q: Tensor, k: Tensor, v: Tensor, subtree_end: Tensor, scale: float) -> Tensor:
    if not _compiled:
        _compiled.append(torch.compile(flex_attention, dynamic=True))
    if subtree_end not in _masks:
        _masks[subtree_end] = block_mask(subtree_end)
    batch = (x.transpose(0, 1)[None] for x in (q, k, v))
    out: Tensor = _compiled[0](
        *batch, block_mask=_masks[subtree_end], scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out[0].transpose(0, 1)


def block_mask(subtree_end: Tensor) -> BlockMask:
    """Without the [U, U] mask: a block of keys is seen by the blocks of queries before its last end, and seen
    by all of a block's queries up to its first end."""
    num_tokens = len(subtree_end)
    num_blocks = -(-num_tokens // BLOCK)
    at = torch.arange(num_blocks, device=subtree_end.device)
    # places beyond the last token end nothing: they are seen by none, and keep no block from being whole
    rest = num_blocks * BLOCK - num_tokens
    last = torch.nn.functional.pad(subtree_end, (0, rest), value=0).view(-1, BLOCK).amax(1)
    first = torch.nn.functional.pad(subtree_end, (0, rest), value=2**31 - 1).view(-1, BLOCK).amin(1)
    before = at[None] < at[:, None]  # [query block, key block]
    query_end = ((at + 1) * BLOCK).clamp(max=num_tokens)
    whole = before & (first[None] >= query_end[:, None])
    partial = (before & ~whole & (last[None] > (at * BLOCK)[:, None])) | (at[None] == at[:, None])

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < subtree_end[key])

    return BlockMask.from_kv_blocks(
        *_listed(partial),
        *_listed(whole),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(num_tokens, num_tokens),
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """[query block, key block] bool -> how many of a row, and which first; [1, 1, ...] int32."""
    order = blocks.int().argsort(dim=1, descending=True, stable=True).int()
    return blocks.sum(1, dtype=torch.int32)[None, None], order[None, None]
