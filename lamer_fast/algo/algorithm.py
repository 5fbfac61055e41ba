"""Algorithm: what is learnt from trials. The loop, the update and the checkpoint go over its trainables."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lamer_fast.algo.credit import assign_credit
from lamer_fast.algo.losses import objective
from lamer_fast.algo.rehearsal import small_trials
from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.learn.trainable import Trainable
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels.head.policy import PolicyLoss


class Algorithm:
    """
    Args:
        trainables: each with its own parameters and optimizer; "policy" is among them.

    Raises:
        ValueError: an estimator or a loss of the user's own cannot be used.
    """

    def __init__(self, config: AlgoConfig, trainables: Mapping[str, Trainable]) -> None:
        self.config, self.trainables = config, trainables
        self.objective = objective(config)

    def advantages(self, trials: TrialBatch, progress: float = 0.0) -> NDArray[np.float32]:
        """One per turn, [R] float32; `progress` is the share of the run's iterations that are over."""
        return assign_credit(trials, self.config, progress)

    def losses(self, batch: PolicyBatch) -> dict[str, PolicyLoss]:
        """Of a micro-batch, one per trainable; each to be differentiated once."""
        policy = self.trainables["policy"].module
        return {"policy": policy(batch, self.objective, head_gradient=policy.head_sum())}


def check_own_functions(algo: AlgoConfig) -> None:
    """Tries the user's own estimator and loss, where there are any, on a few turns made by hand.

    Raises:
        ValueError: one cannot be imported, takes other parameters, raises, or returns what cannot be used.
    """
    if ":" in algo.estimator:
        assign_credit(small_trials(), algo)
    objective(algo)
