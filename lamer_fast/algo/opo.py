"""Estimator opo: a trial against the baseline of least variance (arXiv 2505.23585)."""

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import AlgoConfig
from lamer_fast.rollout.trial_batch import TrialBatch


def opo(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.float32]:
    """[R] float32: the reward of the turn's whole trial, less the mean over its group's trials weighed by
    their sampled tokens, since the squared gradient of a trial grows with its length. A group without sampled
    tokens gets 0.
    """
    num_trials = trials.num_trials
    rewards = np.bincount(trials.trial, trials.rewards, num_trials)
    lengths = np.bincount(trials.trial, trials.token_end - trials.token_start, num_trials)
    played = np.diff(trials.cu_trials) > 0  # a trial whose environment failed has no turns
    group = np.zeros(num_trials, np.int64)
    group[played] = trials.group[trials.cu_trials[:-1][played]]
    tokens = np.bincount(group[played], lengths[played])
    weighed = np.bincount(group[played], (rewards * lengths)[played])
    baseline = weighed / np.maximum(tokens, 1)
    advantages = np.where(tokens[trials.group] > 0, rewards[trials.trial] - baseline[trials.group], 0)
    return advantages.astype(np.float32)
