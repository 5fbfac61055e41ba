"""prefix_tree and plan_prefixes: contract, checks and the fast walk over sorted sequences."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import INT_DTYPES, check_cu, check_tensor
from ..._core.numbers import check_integer

Ints = NDArray[np.int64]


class PrefixTree(NamedTuple):
    """U tokens that stand for the T tokens of the sequences: tokens with equal ids up to them are one.

    They are stored depth first, so a token's continuations follow it without a gap, and token j sees token i
    if ``i <= j < subtree_end[i]``.
    """

    source: Tensor
    """[U] int64: where each one stands in the packed sequences; ``ids[source]`` is the model's input."""
    row: Tensor
    """[T] int64: which one stands for each packed token; ``hidden[row]`` are the states of the sequences."""
    position_ids: Tensor
    """[U] int64, from 0 in each sequence."""
    subtree_end: Tensor
    """[U] int32: the end of its continuations, for `tree_attention`."""


@accepts_numpy
def prefix_tree(ids: Tensor, cu_seqlens: Tensor) -> PrefixTree:
    """Merges the common beginnings of packed sequences, so that a causal model computes each of them once.

    Hidden states, losses and gradients equal those of separate sequences up to rounding, since the result of
    a causal model at a token depends only on the tokens up to it. Equal sequences become one. Runs on the
    host, in O(T) after sorting; CUDA tensors are copied there and back.

        tree = prefix_tree(ids, cu_seqlens)
        hidden = model(ids[tree.source], tree.position_ids, tree.subtree_end)  # [U, H]
        hidden[tree.row]                                                       # [T, H]

    Args:
        ids: [T] integer.
        cu_seqlens: [S+1] int32 or int64, from 0 to T; sequences may be empty.

    Raises:
        ValueError: shapes, dtypes, devices or offsets disagree; the message names both.
    """
    host_ids, bounds = _to_host(ids, cu_seqlens)
    source, position, end = (np.empty(len(host_ids), np.int64) for _ in range(3))
    row = np.empty(len(host_ids), np.int64)
    path = np.empty(_longest(bounds), np.int64)  # rows of the sequence before
    num_rows = depth = 0
    for s, shared in _sorted_sequences(host_ids, bounds):
        start, stop = bounds[s], bounds[s + 1]
        end[path[shared:depth]] = num_rows
        depth = stop - start
        num_new = depth - shared
        path[shared:depth] = np.arange(num_rows, num_rows + num_new)
        source[num_rows : num_rows + num_new] = np.arange(start + shared, stop)
        position[num_rows : num_rows + num_new] = np.arange(shared, depth)
        row[start:stop] = path[:depth]
        num_rows += num_new
    end[path[:depth]] = num_rows

    def tensor(x: Ints) -> Tensor:
        return torch.from_numpy(x).to(ids.device)

    return PrefixTree(
        tensor(source[:num_rows].copy()),
        tensor(row),
        tensor(position[:num_rows].copy()),
        tensor(end[:num_rows].astype(np.int32)),
    )


@accepts_numpy
def plan_prefixes(ids: Tensor, cu_seqlens: Tensor, max_tokens: int) -> Tensor:
    """Bins whose `prefix_tree` holds at most ``max_tokens`` tokens: sequences that begin alike share a bin.

    Next fit over the sequences in order of their ids. Deterministic; runs on the host.

    Args:
        ids: [T] integer.
        cu_seqlens: [S+1] int32 or int64, from 0 to T.
        max_tokens: of a bin, those that sequences share counted once; >= the longest sequence.

    Returns:
        [S] int64: the bin of each sequence, numbered 0, 1, ...

    Raises:
        ValueError: a sequence is longer than ``max_tokens``; the message names both.
    """
    max_tokens = check_integer("max_tokens", max_tokens, 1)
    host_ids, bounds = _to_host(ids, cu_seqlens)
    longest = _longest(bounds)
    if longest > max_tokens:
        at = int(np.diff(bounds).argmax())
        raise ValueError(f"sequence {at} has {longest} tokens, max_tokens = {max_tokens}")
    bins, num_bins, used = np.zeros(len(bounds) - 1, np.int64), 0, 0
    for s, shared in _sorted_sequences(host_ids, bounds):
        length = int(bounds[s + 1] - bounds[s])
        used += length - shared
        if used > max_tokens:
            num_bins, used = num_bins + 1, length
        bins[s] = num_bins
    return torch.from_numpy(bins).to(ids.device)


def _to_host(ids: Tensor, cu_seqlens: Tensor) -> tuple[Ints, Ints]:
    check_tensor("ids", ids, shape=(None,), dtypes=INT_DTYPES)
    check_cu("cu_seqlens", cu_seqlens, len(ids), like=ids, validate=True)
    return ids.cpu().numpy().astype(np.int64), cu_seqlens.cpu().numpy().astype(np.int64)


def _longest(bounds: Ints) -> int:
    return int(np.diff(bounds).max(initial=0))


def _sorted_sequences(ids: Ints, bounds: Ints) -> Iterator[tuple[int, int]]:
    """Sequences in order of their ids: (which, how many tokens it shares with the one before)."""
    unsigned = ids.view(np.uint64) + np.uint64(1 << 63)  # whose bytes, high ones first, sort as the integers
    spans = list(pairwise(bounds.tolist()))
    keys = [unsigned[start:stop].astype(">u8").tobytes() for start, stop in spans]
    before = ids[:0]
    for s in sorted(range(len(keys)), key=keys.__getitem__):
        sequence = ids[slice(*spans[s])]
        length = min(len(before), len(sequence))
        differ = before[:length] != sequence[:length]
        yield s, int(differ.argmax()) if differ.any() else length
        before = sequence
