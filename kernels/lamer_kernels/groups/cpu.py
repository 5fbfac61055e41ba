"""Numba: three passes over the rows with dense ids, float64 inside."""

import numpy as np
from numba import njit

from ..anchors.cpu import dense_ids, pair_ids


@njit(cache=True, nogil=True)
def group_advantages(scores, include, g, num_groups, unit, num_units, loo, scale, keep_singletons, eps, out):
    """g, unit: dense ids; unit is empty for units of one row. scale: 0 none, 1 std, 2 batch_std."""
    num_rows = len(scores)
    by_row = len(unit) == 0
    first = np.zeros(num_groups)  # distances from the group's first score: equal scores give exact zeros
    n = np.zeros(num_groups, np.int64)
    rows_of_unit = np.zeros(num_units, np.int64)
    for i in range(num_rows):
        if not include[i]:
            continue
        k = g[i]
        new = by_row
        if not by_row:
            u = unit[i]
            new = rows_of_unit[u] == 0
            rows_of_unit[u] += 1
        if new:
            if n[k] == 0:
                first[k] = scores[i]
            n[k] += 1

    total = np.zeros(num_groups)
    own = np.zeros(num_units if loo else 0)
    for i in range(num_rows):
        if include[i]:
            d = scores[i] - first[g[i]]
            share = 1.0 if by_row else 1.0 / rows_of_unit[unit[i]]
            total[g[i]] += share * d
            if loo and not by_row:
                own[unit[i]] += share * d

    squares = np.zeros(num_groups)
    if scale == 1:
        for i in range(num_rows):
            if include[i]:
                k = g[i]
                d = scores[i] - first[k] - total[k] / n[k]
                squares[k] += d * d if by_row else d * d / rows_of_unit[unit[i]]
        for k in range(num_groups):
            squares[k] = np.sqrt(squares[k] / max(n[k] - 1, 1)) + eps

    batch = 0.0
    num_all = 0
    for k in range(num_groups):
        num_all += n[k]
    for i in range(num_rows):
        if not include[i]:
            out[i] = 0.0
            continue
        k = g[i]
        d = scores[i] - first[k]
        if n[k] == 1:
            advantage = float(scores[i]) if keep_singletons else 0.0
        elif loo:
            advantage = d - (total[k] - (d if by_row else own[unit[i]])) / (n[k] - 1)
        else:
            advantage = d - total[k] / n[k]
        if scale == 1 and n[k] > 1 and advantage != 0.0:
            advantage /= squares[k]
        elif scale == 2:
            batch += advantage * advantage * (1.0 if by_row else 1.0 / rows_of_unit[unit[i]])
        out[i] = advantage
    if scale == 2:
        deviation = np.sqrt(batch / max(num_all - 1, 1)) + eps
        for i in range(num_rows):
            if out[i] != 0.0:
                out[i] /= deviation


def run(columns: list, stats_unit: str, baseline: str, scale: str, singleton: str, eps: float) -> np.ndarray:
    """[R] float64. columns: scores float64; group, trial, episode int64; include bool; None where absent."""
    scores, group, trial, episode, include = columns
    g, num_groups = dense_ids(group)
    unit, num_units = np.empty(0, np.int32), 0
    if stats_unit != "turn":
        unit, num_units = pair_ids(g, num_groups, trial)
    if stats_unit == "episode":
        unit, num_units = pair_ids(unit, num_units, episode)
    include = np.ones(len(scores), np.bool_) if include is None else include
    loo, spread = baseline == "leave_one_out", ("none", "std", "batch_std").index(scale)
    out = np.empty(len(scores))
    group_advantages(
        scores, include, g, num_groups, unit, num_units, loo, spread, singleton == "score", eps, out
    )
    return out
