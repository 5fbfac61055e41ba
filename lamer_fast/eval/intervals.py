"""95 % intervals, all of them: of a share of tasks, and of a difference paired by task.

Both are right near their ends, where the normal interval has no width (0 of 4 tasks would be [0, 0]) or
leaves the range (3 of 32 would be [-0.9, 19.6] %). The unit is the task: whatever was drawn on one task is
averaged first, so that several trials of a task count as the cluster that they are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share(values: NDArray[np.float64], trials_per_task: int = 1) -> Estimate:
    """The mean of shares in [0, 1], by Wilson's score interval (E. B. Wilson, JASA 1927).

    For n independent tasks, each won or not, this is the usual one. The shares of several trials per task
    vary less than single trials would: then n is how many single trials have a mean of the variance that was
    found between tasks, at most as many as were played.

    Args:
        values: [tasks], the share of each task.
        trials_per_task: independent trials behind each share.
    """
    p, spread = (
        float(np.mean(values)),
        float(np.var(values)),
    )  # spread is p (1 - p) where all values are 0 or 1
    n = float(len(values))
    if 0 < p < 1:
        n = min(n * p * (1 - p) / spread, n * trials_per_task) if spread > 0 else n * trials_per_task
    z2 = Z95**2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    return Estimate(p, min(p, max(0.0, center - half)), max(p, min(1.0, center + half)))


def difference(values: NDArray[np.float64]) -> Estimate:
    """The mean of differences in [-1, 1], paired by task.

    The adjusted Wald interval of D. G. Bonett and R. M. Price (J. Educ. Behav. Stat. 2012): the normal one
    after one task more with each of the differences -1 and 1. Theirs is for differences of single trials;
    those of averages, between -1 and 1, enter the same two sums.

    Args:
        values: [tasks], one difference per task.
    """
    n, mean = len(values) + 2, float(np.mean(values))
    center = float(np.sum(values)) / n
    half = Z95 * ((float(np.sum(values**2)) + 2) / n - center**2) ** 0.5 / n**0.5
    return Estimate(mean, max(-1.0, center - half), min(1.0, center + half))
