"""Algorithm: what is learnt from trials. The loop, the update and the checkpoint go over its trainables."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from lamer_fast.algo.consolidation import imitation
from lamer_fast.algo.credit import assign_credit, prepared
from lamer_fast.algo.gae import Column, Credit, gae_credit
from lamer_fast.algo.losses import objective
from lamer_fast.algo.rehearsal import small_trials
from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.learn.critic import Critic
from lamer_fast.learn.policy import Policy
from lamer_fast.learn.trainable import Trainable
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels.head.policy import PolicyLoss


class Algorithm:
    """
    Args:
        trainables: each with its own parameters and optimizer; "policy" is among them, and "critic" where
            the estimator has one.

    Raises:
        ValueError: an estimator or a loss of the user's own cannot be used.
    """

    def __init__(self, config: AlgoConfig, trainables: Mapping[str, Trainable]) -> None:
        self.config, self.trainables = config, trainables
        self.objective = objective(config)

    @property
    def policy(self) -> Policy:
        policy = self.trainables["policy"].module
        assert isinstance(policy, Policy)
        return policy

    @property
    def critic(self) -> Critic | None:
        critic = self.trainables["critic"].module if self.config.estimator == "gae" else None
        assert critic is None or isinstance(critic, Critic)
        return critic

    def credit(self, trials: TrialBatch, progress: float = 0.0, values: Column | None = None) -> Credit:
        """What each turn is worth.

        Args:
            progress: share of the run's iterations that are over.
            values: [R] of the critic, where there is one.
        """
        if values is None:
            return Credit(assign_credit(trials, self.config, progress))
        trials, config = prepared(trials, self.config, progress)
        return gae_credit(trials, values, config)

    def losses(self, batch: PolicyBatch) -> dict[str, Callable[[], Any]]:
        """Of a micro-batch, one per trainable, to be computed and differentiated in this order, each once."""
        policy, critic = self.policy, self.critic
        read: list[Tensor] = []  # hidden states of the policy, where the critic reads them

        def objective(
            hidden: Tensor, weight: Tensor, batch: PolicyBatch, head_gradient: Tensor | None
        ) -> PolicyLoss:
            read.append(hidden)
            return self.objective(hidden, weight, batch, head_gradient)

        losses: dict[str, Callable[[], Any]] = {
            "policy": lambda: policy(batch, objective, head_gradient=policy.head_sum())
        }
        if critic is not None:
            losses["critic"] = lambda: critic.loss(batch, self.config.value_clip, read[0])
        return losses

    def lesson(self, batch: PolicyBatch) -> PolicyLoss:
        """Of a micro-batch of `pack_lessons`."""
        loss: PolicyLoss = self.policy(batch, imitation, head_gradient=self.policy.head_sum())
        return loss


def check_own_functions(algo: AlgoConfig) -> None:
    """Tries the user's own estimator and loss, where there are any, on a few turns made by hand.

    Raises:
        ValueError: one cannot be imported, takes other parameters, raises, or returns what cannot be used.
    """
    if ":" in algo.estimator:
        assign_credit(small_trials(), algo)
    objective(algo)
