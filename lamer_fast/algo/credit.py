"""Credit: the configuration's switches -> one advantage per turn, and which turns are trained on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import AlgoConfig
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels import meta_advantages
from lamer_kernels.credit.switches import keywords


def assign_credit(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.float32]:
    """One advantage per turn, [R] float32; broadcast to the turn's tokens by `pack`."""
    if trials.num_turns == 0:
        return np.zeros(0, np.float32)
    credit: Any = meta_advantages  # typed for tensors, takes numpy arrays as well
    advantages: NDArray[np.float32] = credit(
        trials.rewards,
        trials.phase,
        trials.episode,
        trials.group,
        trials.cu_trials,
        anchors=trials.anchors,
        valid=trials.valid,
        **keywords(algo),
    )
    return advantages


def lone_turns(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.bool_]:
    """[R] True for turns of a group that has fewer than two trials left: nothing to compare them with.

    reinforce++ compares with the whole batch, so that nothing is left out there.
    """
    if algo.estimator == "reinforce++":
        return np.zeros(trials.num_turns, np.bool_)
    alive = np.diff(trials.cu_trials) > 0  # a trial whose environment failed has no turns
    group_of_trial = trials.group[trials.cu_trials[:-1][alive]]
    size = np.bincount(group_of_trial, minlength=int(trials.group.max(initial=-1)) + 1)
    return np.asarray(size[trials.group] < 2)
