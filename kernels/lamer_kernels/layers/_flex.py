"""FlexAttention where a key is seen by one stretch of queries: which blocks are skipped follows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128

_compiled: list[Callable[..., Any]] = []


def attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask, scale: float) -> Tensor:
    """q [T, Hq, D]; k, v [T, Hkv, D]; as torch computes it on a CPU, by one kernel on a GPU."""
    function: Callable[..., Any] = flex_attention
    if q.device.type == "cuda":
        if not _compiled:
            _compiled.append(torch.compile(flex_attention, dynamic=True))
        function = _compiled[0]
    batch = (x.transpose(0, 1)[None] for x in (q, k, v))
    out: Tensor = function(*batch, block_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return out[0].transpose(0, 1)


def block_mask(end: Tensor, start: Tensor | None = None) -> BlockMask:
    """Key i is seen by the queries from start[i] on, by default from i itself, and before end[i].

    Without the [T, T] mask: blocks of queries between a block's first start and last end see some of its
    keys, those between its last start and first end see all of them.

    Args:
        end, start: [T] integers. The stretches of neighbouring keys leave no query between them out.
    """
    num_tokens = len(end)
    num_blocks = -(-num_tokens // BLOCK)
    at = torch.arange(num_blocks, device=end.device)
    # places beyond the last token are seen by none, and keep no block from being whole
    first_end, last_end = _extremes(end, num_blocks)
    first_start, last_start = (
        (at * BLOCK, (at + 1) * BLOCK - 1) if start is None else _extremes(start, num_blocks)
    )
    query, query_end = at[:, None] * BLOCK, ((at + 1) * BLOCK).clamp(max=num_tokens)[:, None]
    whole = (last_start <= query) & (first_end >= query_end)  # [query block, key block]
    partial = (first_start < query_end) & (last_end > query) & ~whole

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        since = key if start is None else start[key]
        return (since <= query) & (query < end[key])

    return BlockMask.from_kv_blocks(
        *_listed(partial),
        *_listed(whole),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(num_tokens, num_tokens),
    )


def _extremes(x: Tensor, num_blocks: int) -> tuple[Tensor, Tensor]:
    """The least and the largest of each block."""
    rest = num_blocks * BLOCK - len(x)
    least = torch.nn.functional.pad(x, (0, rest), value=2**31 - 1)
    largest = torch.nn.functional.pad(x, (0, rest), value=0)
    return least.view(-1, BLOCK).amin(1), largest.view(-1, BLOCK).amax(1)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """[query block, key block] bool -> how many of a row, and which first; [1, 1, ...] int32."""
    order = blocks.int().argsort(dim=1, descending=True, stable=True).int()
    return blocks.sum(1, dtype=torch.int32)[None, None], order[None, None]
