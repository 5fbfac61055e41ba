"""An estimator and a loss of your own, for `lamer-fast train examples/own_estimator.toml` from this folder.

The estimator: a trial scores by how early it was won; a turn's advantage is that score minus the mean of the
trial's group. The loss: a plain policy gradient whose ratio is capped from above, never from below.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.rollout.trial_batch import TrialBatch


def early_win(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.float32]:
    """[R] float32: one number per turn of the table. A lost episode costs a factor `gamma_traj`."""
    won, first = trials.success_by_episode.any(axis=1), trials.success_by_episode.argmax(axis=1)
    score = np.where(won, algo.gamma_traj**first, 0.0)[trials.trial]  # of each turn's trial
    advantages = np.zeros(trials.num_turns, np.float32)
    for group in np.unique(trials.group):
        rows = trials.group == group
        of_trials = dict(zip(trials.trial[rows].tolist(), score[rows].tolist(), strict=True))
        advantages[rows] = score[rows] - np.mean(list(of_trials.values()))
    return advantages


def capped(logprobs: Tensor, batch: PolicyBatch, algo: AlgoConfig) -> Tensor:
    """[L] float32: the loss of each token; its weight in the minibatch is the trainer's business."""
    ratio = torch.exp(logprobs - batch.old_logprobs)
    return -ratio.clamp(max=1 + algo.clip_high) * batch.advantages.to(logprobs.device)
