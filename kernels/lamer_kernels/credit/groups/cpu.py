"""Numba: statistics of one group, float64 inside, and a driver that brings the rows of a group together."""

import numpy as np

from ..._core.jit import njit
from ..anchors.cpu import dense_ids, pair_ids


@njit
def deviation_of(squares, num_units, eps):
    """std + eps; infinite where that is 0 (what is divided becomes 0), NaN where the squares overflow."""
    deviation = np.sqrt(squares / max(num_units - 1, 1)) + eps
    if deviation == 0.0:
        return np.inf
    return deviation if np.isfinite(deviation) else np.nan


@njit
def group_bracket(scores, include, unit, n, num_units, loo, scale, keep, eps, unit_rows, unit_mean, out):
    """Advantages of one group of n rows, save for the division by the batch's deviation.

    unit: dense ids. scale: 0 none, 1 std, 2 batch_std. unit_rows, unit_mean: room for num_units values.
    Returns (sum over units of the mean squared advantage, number of units with included rows).
    """
    for u in range(num_units):
        unit_rows[u] = 0
        unit_mean[u] = 0.0
    first = 0.0  # distances from the first score: equal scores give exact zeros
    for i in range(n):
        if include[i]:
            first = scores[i]
            break
    for i in range(n):
        if include[i]:
            unit_rows[unit[i]] += 1
            unit_mean[unit[i]] += scores[i] - first
    total, units = 0.0, 0
    for u in range(num_units):
        if unit_rows[u] > 0:
            unit_mean[u] /= unit_rows[u]
            total += unit_mean[u]
            units += 1
    others = max(units - 1, 1)
    average = total / max(units, 1)
    if not np.isfinite(total):
        total = average = np.nan  # of one score that is not finite the others would be infinitely far
    factor = 1.0
    if scale == 1:
        squares = 0.0
        for i in range(n):
            if include[i]:
                d = scores[i] - first - average
                squares += d * d / unit_rows[unit[i]]
        factor = 1.0 / deviation_of(squares, units, eps)
    squares = 0.0
    for i in range(n):
        if not include[i]:
            out[i] = 0.0
        elif units == 1:
            out[i] = scores[i] if keep else 0.0
        else:
            d = scores[i] - first
            above = d - ((total - unit_mean[unit[i]]) / others if loo else average)
            out[i] = factor * above if above != 0.0 else 0.0
        if scale == 2 and include[i]:
            squares += out[i] * out[i] / unit_rows[unit[i]]
    return squares, units


@njit
def divide_by_deviation(out, squares, num_units, eps):
    deviation = deviation_of(squares, num_units, eps)
    for i in range(len(out)):
        if out[i] != 0.0:
            out[i] /= deviation


@njit
def group_starts(g, num_groups):
    """(rows ordered by group, [N+1] where each group starts in that order)."""
    starts = np.zeros(num_groups + 1, np.int64)
    for i in range(len(g)):
        starts[g[i] + 1] += 1
    for k in range(num_groups):
        starts[k + 1] += starts[k]
    free = starts.copy()
    order = np.empty(len(g), np.int64)
    for i in range(len(g)):
        order[free[g[i]]] = i
        free[g[i]] += 1
    return order, starts


@njit
def group_advantages(scores, include, g, num_groups, unit, num_units, loo, scale, keep, eps, out):
    """g, unit: dense ids; unit is empty where a unit is a row."""
    order, starts = group_starts(g, num_groups)
    size = np.max(starts[1:] - starts[:-1]) if num_groups else 0
    values, unit_mean, result = np.zeros((3, size))
    counted, local, unit_rows = np.zeros(size, np.bool_), np.zeros(size, np.int32), np.zeros(size, np.int64)
    seen = np.full(num_units, -1, np.int32)  # a unit's number inside its group
    squares, all_units = 0.0, 0
    for k in range(num_groups):
        n = starts[k + 1] - starts[k]
        num_local = 0
        for j in range(n):
            i = order[starts[k] + j]
            values[j], counted[j], local[j] = scores[i], include[i], j
            if len(unit) > 0:
                if seen[unit[i]] < 0:
                    seen[unit[i]] = num_local
                    num_local += 1
                local[j] = seen[unit[i]]
        more, units = group_bracket(
            values, counted, local, n, num_local if len(unit) > 0 else n, loo, scale, keep, eps,
            unit_rows, unit_mean, result,
        )  # fmt: skip
        squares += more
        all_units += units
        for j in range(n):
            out[order[starts[k] + j]] = result[j]
    if scale == 2:
        divide_by_deviation(out, squares, all_units, eps)


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
