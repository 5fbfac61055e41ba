"""CUDA: exact ids by two stable radix sorts of the vendor's library; no kernel of our own, no host sync."""

import torch
from torch import Tensor


def lexsort(*keys: Tensor) -> Tensor:
    """Stable order of the rows by keys[0], then keys[1], ..."""
    order = torch.argsort(keys[-1], stable=True)
    for key in keys[-2::-1]:
        order = order[torch.argsort(key[order], stable=True)]
    return order


def changes(order: Tensor, *keys: Tensor) -> Tensor:
    """[R] bool in sorted order: a new combination of keys starts here."""
    new = torch.ones_like(order, dtype=torch.bool)
    new[1:] = False
    for key in keys:
        in_order = key[order]
        new[1:] |= in_order[1:] != in_order[:-1]
    return new


def offsets(new: Tensor) -> tuple[Tensor, Tensor]:
    """([R] segment of each sorted row, [R+1] start of each segment; R for the segments that do not exist)."""
    rows = torch.arange(len(new), device=new.device)
    segment = new.cumsum(0) - 1
    starts = torch.full((len(new) + 1,), len(new), dtype=torch.int64, device=new.device)
    starts.scatter_(0, torch.where(new, segment, len(new)), torch.where(new, rows, len(new)))
    return segment, starts


def pair_ids(a: Tensor, b: Tensor) -> Tensor:
    order = lexsort(a, b)
    segment, starts = offsets(changes(order, a, b))
    first = torch.empty_like(order)  # the sorts are stable: a segment begins with its first appearance
    first[order] = order[starts[segment]]
    rank = (first == torch.arange(len(first), device=first.device)).cumsum(0) - 1
    return rank[first]
