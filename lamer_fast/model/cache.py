"""Keys and values of the sampler's slots, and the attention of a pass that adds to them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.model.decoder import Decoder
from lamer_kernels.layers import cached_attention, new_slots


class SlotCache:
    """Room for `num_slots` sequences of up to `max_tokens` tokens, in every layer of a decoder."""

    def __init__(self, decoder: Decoder, num_slots: int, max_tokens: int) -> None:
        weight = decoder.model.get_input_embeddings().weight
        a = decoder.architecture
        self.max_tokens = max_tokens
        self._sizes = max_tokens, a.num_kv_heads, a.head_size, weight.dtype, weight.device
        self.layers = [new_slots(num_slots, *self._sizes) for _ in range(a.num_layers)]

    @property
    def num_slots(self) -> int:
        return len(self.layers[0][0])

    def grow(self, num_slots: int) -> None:
        """More slots; the others keep what they hold. Layer by layer, so that only one is there twice."""
        for i, old in enumerate(self.layers):
            self.layers[i] = new_slots(num_slots, *self._sizes)
            for before, after in zip(old, self.layers[i], strict=True):
                after[: len(before)] = before

    def rows(
        self,
        slots: NDArray[np.int64],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        wanted: NDArray[np.int64] | None = None,
    ) -> "CachedAttention":
        """A pass over B rows.

        Args:
            slots: [B]; starts: [B] tokens that they hold; counts: [B] new tokens of each, at least 1.
            token_ids: [N] the new tokens, row after row.
            wanted: [L] which of them, None for all.
        """
        return CachedAttention(self, slots, starts, counts, token_ids, wanted)


class CachedAttention:
    """`Attention` of the new tokens of some rows, each to its own slot up to itself. No gradients."""

    def __init__(
        self,
        cache: SlotCache,
        slots: NDArray[np.int64],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        token_ids: NDArray[np.int64],
        wanted: NDArray[np.int64] | None,
    ) -> None:
        self._layers = cache.layers
        self.length = cache.max_tokens
        ends = np.cumsum(counts)
        positions = np.arange(ends[-1]) - np.repeat(ends - counts - starts, counts)
        parts = [token_ids, positions, np.repeat(slots, counts), np.concatenate(([0], ends))]
        parts += [] if wanted is None else [wanted]
        # lengths and not masks, in one copy
        device = cache.layers[0][0].device
        sent = torch.from_numpy(np.concatenate(parts)).to(device, non_blocking=True)
        cut = torch.split(sent, [len(part) for part in parts])
        self.token_ids, self.positions, self._slots, self._cu_seqlens, *rest = cut
        self.wanted: Tensor | None = rest[0] if rest else None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        keys, values = self._layers[layer]
        return cached_attention(
            q, k, v, keys, values, self._slots, self.positions, self._cu_seqlens, scale=scale
        )
