"""Means over seeds and tasks with 95 % intervals, by a bootstrap over both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.eval.intervals import Estimate

DRAWS = 4000
Values = NDArray[np.float64]


def over_seeds_and_tasks(
    values: Values, weights: Values | float = 1.0, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """The mean of values [seeds, tasks] by their weights, where every seed was evaluated on the same tasks;
    NaN is no value.

    Seeds and tasks are drawn anew, both with replacement and independently of one another (the crossed
    bootstrap of A. B. Owen, Ann. Appl. Stat. 2007). A draw of S seeds has only (S - 1) / S of their variance:
    the means of the seeds are spread by sqrt(S / (S - 1)) before, which matters with three. Of one seed the
    interval speaks of the tasks alone.
    """
    drawn = _drawn(values, *_tasks_drawn(values.shape[1], draws, seed), weights)
    return _estimate(float(_mean(values, weights)), drawn)


def paired(a: Values, b: Values, seed: int = 0) -> Estimate:
    """Mean of a - b, both [seeds, tasks] on the same tasks. Seeds are paired in order where both have as many
    (the boards of training are the same) or one has a single one; else each side draws its own."""
    if len(a) == len(b) or 1 in (len(a), len(b)):
        return over_seeds_and_tasks(a - b, seed=seed)  # numpy repeats the single one
    counts, rng = _tasks_drawn(a.shape[1], DRAWS, seed)
    return _estimate(float(a.mean() - b.mean()), _drawn(a, counts, rng) - _drawn(b, counts, rng))


def closed(values: Values, base: Values, bound: Values, seed: int = 0) -> Estimate:
    """Share of the base's regret, which is not 0, that is closed: (values - base) / (bound - base), of means.

    Args:
        values, base: [seeds, tasks] on the same tasks; of each its own seeds are drawn.
        bound: [tasks].
    """
    counts, rng = _tasks_drawn(values.shape[1], DRAWS, seed)
    ours, first, best = (_drawn(v, counts, rng) for v in (values, base, bound[None]))
    mean = (values.mean() - base.mean()) / (bound.mean() - base.mean())
    told = best > first  # a draw of few tasks may have no regret, of which no share is closed
    return _estimate(float(mean), (ours - first)[told] / (best - first)[told])


def _tasks_drawn(num_tasks: int, draws: int, seed: int) -> tuple[Values, np.random.Generator]:
    """How often each draw has each task, [draws, tasks], and the generator after that."""
    counts, state = _counts(num_tasks, draws, seed)
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return counts, rng


@lru_cache(maxsize=4)
def _counts(num_tasks: int, draws: int, seed: int) -> tuple[Values, Mapping[str, Any]]:
    """Kept, since 4,000 draws of 2,048 tasks take a second, and 64 MB."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), draws).astype(np.float64)
    return counts, rng.bit_generator.state


def _drawn(values: Values, counts: Values, rng: np.random.Generator, weights: Values | float = 1.0) -> Values:
    """[draws]: means over tasks by their weights and counts, and over seeds drawn anew."""
    num_seeds = len(values)
    if num_seeds > 1:
        spread = (num_seeds / (num_seeds - 1)) ** 0.5 - 1
        values = values + (_mean(values, weights, axis=1) - _mean(values, weights)) * spread
    chosen = rng.integers(num_seeds, size=(num_seeds, len(counts)))
    weights = np.where(np.isnan(values), 0.0, weights)
    total = weights @ counts.T
    by_seed = (np.nan_to_num(values) * weights) @ counts.T / np.where(total > 0, total, 1.0)
    return np.asarray(np.take_along_axis(by_seed, chosen, axis=0).mean(axis=0))


def _mean(values: Values, weights: Values | float, axis: int | None = None) -> Values:
    """Over all, or of each seed: [seeds, 1]"""
    weights = np.where(np.isnan(values), 0.0, weights)
    total = (np.nan_to_num(values) * weights).sum(axis=axis, keepdims=axis is not None)
    return np.asarray(total / weights.sum(axis=axis, keepdims=axis is not None))


def _estimate(mean: float, drawn: Values) -> Estimate:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)))
