"""Record: what one iteration leaves in metrics.jsonl, and what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.algo.credit import lone_turns
from lamer_fast.config import Config
from lamer_fast.eval.success import Evaluation
from lamer_fast.learn.batch import Minibatch
from lamer_fast.learn.update import LearnStats, Mismatch, mismatch
from lamer_fast.rollout.trial_batch import TrialBatch

RENAMED = {"return_": "return"}  # field -> key in JSON


@dataclass(frozen=True)
class Tokens:
    prompt: int
    sampled: int
    trained: int


@dataclass(frozen=True)
class Counters:
    turns: int
    invalid: int  # turns whose reply could not be parsed
    truncated: int
    failed_trials: int  # by their environment
    groups_dropped: int  # too few trials were left to compare
    updates: int
    updates_empty: int
    updates_skipped: int


@dataclass(frozen=True)
class Evaluated:
    """success@1..K with 95 % intervals, of trials and of independent attempts, on held-out boards."""

    iteration: int  # iterations that the policy was trained for: 0 is the policy before training
    tasks: int
    panel: str
    success_at: list[float]
    success_low: list[float]
    success_high: list[float]
    independent: list[float]
    independent_low: list[float]
    independent_high: list[float]

    @classmethod
    def of(cls, iteration: int, found: Evaluation) -> Evaluated:
        trial, independent = found.trial, found.independent
        return cls(
            iteration,
            found.num_tasks,
            found.panel,
            [e.mean for e in trial],
            [e.low for e in trial],
            [e.high for e in trial],
            [e.mean for e in independent],
            [e.low for e in independent],
            [e.high for e in independent],
        )


@dataclass(frozen=True)
class Record:
    """Means are over the updates of the iteration unless said."""

    iteration: int
    success_at: list[float]  # of the training trials, k = 1..K
    return_: float  # mean sum of rewards of a trial
    advantage_abs: float  # mean over turns
    loss: float
    entropy: float  # nats
    clipped: float  # share of tokens
    kl: float  # nats, from the reference
    mismatch: Mismatch
    grad_norm: float  # before clipping
    lr: float  # of the last update
    tokens: Tokens
    counters: Counters
    seconds: dict[str, float]  # by phase; least_*: what the device would need
    others: dict[str, float]  # NAME_loss and NAME_grad_norm of each trainable beside the policy
    eval_before: Evaluated | None = None  # of the policy before training, in the first record
    eval: Evaluated | None = None  # of the policy after this iteration

    @classmethod
    def of(
        cls,
        iteration: int,
        trials: TrialBatch,
        advantages: NDArray[np.float32],
        minibatches: list[Minibatch],
        stats: LearnStats,
        seconds: Mapping[str, float],
        config: Config,
        evaluations: Mapping[str, Evaluated],
    ) -> Record:
        """`seconds` count those in the environment twice: as `env`, and in `sample`."""
        sampled = int(trials.loss_mask.sum())
        lone = lone_turns(trials, config.algo)
        of_policy = ("loss", "entropy", "clipped", "kl", "grad_norm")
        return cls(
            iteration=iteration,
            success_at=trials.success_at().tolist(),
            return_=float(trials.rewards.sum()) / max(1, trials.num_trials),
            advantage_abs=float(np.abs(advantages).mean()) if len(advantages) else 0.0,
            mismatch=mismatch(minibatches, stats, config.algo),
            lr=stats.lr,
            tokens=Tokens(len(trials.tokens) - sampled, sampled, stats.trained_tokens),
            counters=Counters(
                turns=trials.num_turns,
                invalid=int((~trials.valid).sum()),
                truncated=int(trials.truncated.sum()),
                failed_trials=len(trials.errors),
                groups_dropped=len(np.unique(trials.group[lone])),
                updates=stats.updates,
                updates_empty=stats.empty,
                updates_skipped=stats.skipped,
            ),
            seconds=dict(seconds) | {"sample": seconds["sample"] - seconds.get("env", 0.0)},
            loss=stats.mean("loss"),
            entropy=stats.mean("entropy"),
            clipped=stats.mean("clipped"),
            kl=stats.mean("kl"),
            grad_norm=stats.mean("grad_norm"),
            others={key: stats.mean(key) for key in stats.sums if key not in of_policy},
            eval_before=evaluations.get("eval_before"),
            eval=evaluations.get("eval"),
        )

    @property
    def score(self) -> float:
        """What the best checkpoint is judged by: the evaluation of this iteration, or its training trials."""
        judged = self.success_at if self.eval is None else self.eval.success_at
        return judged[-1]

    def to_json(self) -> dict[str, Any]:
        """A line of metrics.jsonl; evaluations that were not made have no key."""
        values = asdict(self)
        others: dict[str, float] = values.pop("others")
        return {RENAMED.get(k, k): value for k, value in values.items() if value is not None} | others
