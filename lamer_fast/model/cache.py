"""Keys and values of the sampler's slots, and the attention of a pass that adds to them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.model.decoder import Decoder
from lamer_kernels.layers import cached_attention, new_slots

Ints = NDArray[np.int64]


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
        slots: Ints,
        starts: Ints,
        counts: Ints,
        token_ids: Ints,
        wanted: Ints | None = None,
        *,
        pad: bool = False,
    ) -> "CachedAttention":
        """A pass over B rows.

        Args:
            slots: [B]; starts: [B] tokens that they hold; counts: [B] new tokens of each, at least 1.
            token_ids: [N] the new tokens, row after row.
            wanted: [L] which of them, None for all.
            pad: with tokens and rows of slot -1 up to one of few sizes, so that the pass can be a CUDA graph.
                The tokens asked for come first, as they do without padding.
        """
        ends = np.cumsum(counts)
        positions = np.arange(ends[-1]) - np.repeat(ends - counts - starts, counts)
        parts = [token_ids, positions, np.repeat(slots, counts), np.concatenate(([0], ends))]
        parts += [] if wanted is None else [wanted]
        if pad:
            parts = _padded(parts)
        sent = torch.from_numpy(np.concatenate(parts))
        device = self.layers[0][0].device
        if device.type == "cuda":
            sent = sent.pin_memory()  # freed when the copy is done, which nobody waits for
        return CachedAttention(self, [len(part) for part in parts], sent.to(device, non_blocking=True))


class CachedAttention:
    """`Attention` of the new tokens of some rows, each to its own slot up to itself. No gradients.

    Args:
        sent: lengths and not masks, in one copy: ids, positions and slots of the tokens, offsets of the rows,
            and which tokens are wanted; of `sizes`.
    """

    def __init__(self, cache: SlotCache, sizes: Sequence[int], sent: Tensor) -> None:
        self.cache, self.sizes, self.sent = cache, tuple(sizes), sent
        self.length = cache.max_tokens
        cut = torch.split(sent, list(sizes))
        self.token_ids, self.positions, self.slots, self.cu_seqlens, *rest = cut
        self.wanted: Tensor | None = rest[0] if rest else None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        keys, values = self.cache.layers[layer]
        return cached_attention(
            q, k, v, keys, values, self.slots, self.positions, self.cu_seqlens, scale=scale
        )


def _padded(parts: list[Ints]) -> list[Ints]:
    """Rows of one token each: one row more per token. Else one row more that has all the tokens, and no
    others, so that the pass has not as many rows as tokens: that is how the kernel knows the first kind."""
    token_ids, positions, slots, offsets, *wanted = parts
    num, rows = len(token_ids), len(offsets) - 1
    more = padded_size(num) - num
    parts = [np.pad(token_ids, (0, more)), np.pad(positions, (0, more))]
    parts.append(np.pad(slots, (0, more), constant_values=-1))
    if not wanted:
        return [*parts, np.arange(num + more + 1)]
    capacity = 16
    while capacity < rows + 1:
        capacity *= 2
    capacity += capacity == num + more
    offsets = np.pad(offsets, (0, capacity - rows), constant_values=num + more)
    return [*parts, offsets, np.pad(wanted[0], (0, capacity - len(wanted[0])))]


def padded_size(n: int) -> int:
    """The least of 1, 2, 4, 8, 10, 12, 14, 16, 20, ... that is not below n: four between powers of two."""
    if n <= 8:
        return 1 << (n - 1).bit_length()
    step = 1 << ((n - 1).bit_length() - 3)
    return -(-n // step) * step
