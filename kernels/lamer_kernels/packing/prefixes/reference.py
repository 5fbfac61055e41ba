"""Reference: the definition of the tree, a trie of token ids walked depth first."""

from itertools import pairwise


def prefix_tree_ref(
    ids: list[int], cu_seqlens: list[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """(source [U], row [T], position_ids [U], subtree_end [U]) of `PrefixTree`."""
    sequences = [ids[start:end] for start, end in pairwise(cu_seqlens)]
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    row = [0] * len(ids)
    source: list[int] = []
    position_ids: list[int] = []
    subtree_end: list[int] = []
    rows: dict[tuple[int, ...], int] = {}
    for s in order:
        for i in range(len(sequences[s])):
            prefix = tuple(sequences[s][: i + 1])
            if prefix not in rows:
                rows[prefix] = len(source)
                source.append(cu_seqlens[s] + i)
                position_ids.append(i)
            row[cu_seqlens[s] + i] = rows[prefix]
    for prefix in rows:
        below = [at for other, at in rows.items() if other[: len(prefix)] == prefix]
        subtree_end.append(max(below) + 1)
    return source, row, position_ids, subtree_end
