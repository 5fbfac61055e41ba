"""Rows padded to one length, as most trainers keep them, to and from the loss tokens side by side."""

from collections.abc import Hashable, Iterable

import torch
from torch import Tensor


class LossTokens:
    """The N tokens of padded rows [B, L] that a mask marks, row by row.

    Finding them waits for a GPU once; a trainer that logs a mean of its mask has waited already.

    Args:
        mask: [B, L] bool, or integers or floats 0 and 1.
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.dim() != 2:
            raise ValueError(f"mask must have shape (rows, tokens), got {tuple(mask.shape)}")
        self.mask = mask.bool()
        self.idx = self.mask.flatten().nonzero()[:, 0]
        """[N] int64, places in the flattened rows."""

    def __len__(self) -> int:
        return len(self.idx)

    def take(self, x: Tensor) -> Tensor:
        """[B, L], or what broadcasts to it such as [B, 1], -> [N] float32 (float64 stays)."""
        x = x if x.dtype is torch.float64 else x.float()
        return x.expand(self.mask.shape).reshape(-1)[self.idx]

    def put(self, x: Tensor) -> Tensor:
        """[N] -> [B, L], 0 elsewhere; differentiable."""
        return x.new_zeros(self.mask.shape).masked_scatter(self.mask, x)

    @property
    def counts(self) -> Tensor:
        """[B] int64, loss tokens of each row."""
        return self.mask.sum(1)

    @property
    def cu_rows(self) -> Tensor:
        """[B+1] int64, offsets of the rows in the N tokens."""
        return torch.nn.functional.pad(self.counts.cumsum(0), (1, 0))


def dense_ids(values: Iterable[Hashable]) -> Tensor:
    """[R] int64: equal values get equal ids, numbered as they appear. For uids, strings and tuples."""
    seen: dict[Hashable, int] = {}
    return torch.tensor([seen.setdefault(value, len(seen)) for value in values], dtype=torch.int64)
