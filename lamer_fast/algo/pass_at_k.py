"""Estimator pass_at_k: the gradient of P(one of k succeeds) instead of that of the mean reward."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import AlgoConfig
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels import pass_at_k_advantages


def pass_at_k(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.float32]:
    """[R] float32. k counts the episodes of a trial, or the trials of a group.

    The op's weights are those of a sum over the trials of a group; they are multiplied by its size, so that
    an advantage is as large as those of the other estimators. A reflection weighs as the episode after it.
    A group in which too few trials are left gets 0.
    """
    weigh: Any = pass_at_k_advantages  # typed for tensors, takes numpy arrays as well
    advantages = np.zeros(trials.num_turns, np.float32)
    success = trials.success_by_episode
    for group in np.unique(trials.group):
        rows = np.flatnonzero(trials.group == group)
        members, place = np.unique(trials.trial[rows], return_inverse=True)
        n, k = len(members), algo.pass_k
        if algo.pass_over == "episodes" and n >= 2:
            weights = weigh(success[members], k or success.shape[1], over="episodes")
            advantages[rows] = n * weights[place, trials.episode[rows]]
        elif algo.pass_over == "trials" and n >= max(2, k):
            advantages[rows] = n * weigh(success[members].any(axis=1), k or n)[place]
    return advantages
