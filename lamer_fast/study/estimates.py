"""Means over seeds and tasks with 95 % intervals, by a bootstrap over both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lamer_fast.eval.intervals import Estimate

DRAWS = 4000


def over_seeds_and_tasks(values: NDArray[np.float64], seed: int = 0) -> Estimate:
    """The mean of values [seeds, tasks], where every seed was evaluated on the same tasks.

    Seeds and tasks are drawn anew, both with replacement and independently of one another (the crossed
    bootstrap of A. B. Owen, Ann. Appl. Stat. 2007). A draw of S seeds has only (S - 1) / S of their variance:
    the means of the seeds are spread by sqrt(S / (S - 1)) before, which matters with three. Of one seed the
    interval speaks of the tasks alone.
    """
    num_seeds, num_tasks = values.shape
    mean, by_seed = float(values.mean()), values.mean(axis=1, keepdims=True)
    if num_seeds > 1:
        values = values + (by_seed - mean) * ((num_seeds / (num_seeds - 1)) ** 0.5 - 1)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), DRAWS) / num_tasks
    drawn = values @ weights.T  # [seeds, draws]
    chosen = rng.integers(num_seeds, size=(num_seeds, DRAWS))
    means = np.take_along_axis(drawn, chosen, axis=0).mean(axis=0)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)))


def paired(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0) -> Estimate:
    """Mean of a - b, both [seeds, tasks] on the same tasks. Seeds are paired in order where both have as many
    (the boards of training are the same), else each side is drawn for itself."""
    if len(a) == len(b):
        return over_seeds_and_tasks(a - b, seed)
    if len(b) == 1 or len(a) == 1:
        return over_seeds_and_tasks(a - b, seed)  # numpy repeats the single one
    rng = np.random.default_rng(seed)
    num_tasks = a.shape[1]
    weights = rng.multinomial(num_tasks, np.full(num_tasks, 1 / num_tasks), DRAWS) / num_tasks
    sides = []
    for values in (a, b):
        spread = (len(values) / (len(values) - 1)) ** 0.5 - 1
        wide = values + (values.mean(axis=1, keepdims=True) - values.mean()) * spread
        chosen = rng.integers(len(values), size=(len(values), DRAWS))
        sides.append(np.take_along_axis(wide @ weights.T, chosen, axis=0).mean(axis=0))
    mean = float(a.mean() - b.mean())
    low, high = np.quantile(sides[0] - sides[1], (0.025, 0.975))
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)))
