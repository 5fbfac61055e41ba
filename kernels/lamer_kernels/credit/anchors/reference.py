"""Reference: the definition of the op, by sorting. Exact for every pair of int64 values."""

import torch
from torch import Tensor


def _unique_inverse(x: Tensor) -> Tensor:
    inverse: Tensor = torch.unique(x, return_inverse=True)[1]
    return inverse


def pair_ids_ref(a: Tensor, b: Tensor) -> Tensor:
    """[R] int64: equal ids where (a, b) are equal, numbered 0, 1, ... in order of first appearance."""
    if len(a) == 0:
        return torch.zeros_like(a, dtype=torch.int64)
    a_ids, b_ids = _unique_inverse(a), _unique_inverse(b)
    ids = _unique_inverse(a_ids * (b_ids.max() + 1) + b_ids)
    rows = torch.arange(len(ids), device=ids.device)
    first = torch.full_like(rows, len(rows)).scatter_reduce(0, ids, rows, "amin")
    rank = (first[ids] == rows).cumsum(0) - 1  # pairs seen so far
    return rank[first[ids]]
