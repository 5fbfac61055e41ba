"""FlexAttention over a prefix tree: a token is seen from itself on to the end of what continues it."""

from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .. import _flex

_masks: Any = WeakTensorKeyDictionary()  # of the ends that every layer of a pass hands over


def attention(q: Tensor, k: Tensor, v: Tensor, subtree_end: Tensor, scale: float) -> Tensor:
    if subtree_end not in _masks:
        _masks[subtree_end] = _flex.block_mask(subtree_end)
    return _flex.attention(q, k, v, _masks[subtree_end], scale)
