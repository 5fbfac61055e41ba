"""FlexAttention over packed sequences; reads no offset on the host."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.weak import WeakTensorKeyDictionary

from .. import _flex

_masks: Any = WeakTensorKeyDictionary()  # of the offsets that every layer of a pass hands over


def attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, causal: bool, scale: float) -> Tensor:
    # an inference tensor does not count its changes
    made = len(q), causal, None if cu_seqlens.is_inference() else cu_seqlens._version
    known = _masks.get(cu_seqlens)
    if known is None or known[0] != made:
        known = _masks[cu_seqlens] = made, block_mask(cu_seqlens, len(q), causal)
    return _flex.attention(q, k, v, known[1], scale)


def block_mask(cu_seqlens: Tensor, num_tokens: int, causal: bool) -> BlockMask:
    """A key is seen until its sequence ends: from itself on or, if not causal, from the sequence's start."""
    starts, ends = cu_seqlens[:-1], cu_seqlens[1:]
    at = torch.arange(num_tokens, dtype=cu_seqlens.dtype, device=cu_seqlens.device)
    sequence = torch.bucketize(at, ends, right=True)
    return _flex.block_mask(ends[sequence], None if causal else starts[sequence])
