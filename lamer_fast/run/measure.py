"""From what an iteration did to its record."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lamer_fast.algo.credit import lone_turns
from lamer_fast.config import Config
from lamer_fast.eval.success import first_attempts
from lamer_fast.learn.batch import Minibatch
from lamer_fast.learn.ranks import ALONE, Ranks
from lamer_fast.learn.update import LearnStats, mismatch
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.run.collection import Draws
from lamer_fast.run.record import Counters, Evaluated, Record, Tokens


def record_of(
    iteration: int,
    trials: TrialBatch,
    advantages: NDArray[np.float32],
    minibatches: list[Minibatch],
    stats: LearnStats,
    seconds: Mapping[str, float],
    config: Config,
    evaluations: Mapping[str, Evaluated],
    ranks: Ranks = ALONE,
    draws: Draws | None = None,
) -> Record:
    """`seconds` count those in the environment twice: as `env`, and in `sample`. Called by every rank.

    Tokens are of all that was played; success is of the first `draws`, where there were several.
    """
    prompt, sampled = len(trials.tokens) - trials.num_sampled, trials.num_sampled
    success_at, others = trials.success_at().tolist(), stats.of_iteration
    independent = first_attempts(trials.success_by_episode, config.rollout.trials_per_group)
    if draws is not None:
        prompt, sampled = prompt + draws.prompt, sampled + draws.sampled
        success_at, independent = draws.success_at, draws.independent
        others = others | draws.numbers()
    lone = lone_turns(trials, config.algo)
    of_policy = ("loss", "entropy", "clipped", "kl", "grad_norm")
    return Record(
        iteration=iteration,
        success_at=success_at,
        return_=float(trials.rewards.sum()) / max(1, trials.num_trials),
        advantage_abs=float(np.abs(advantages).mean()) if len(advantages) else 0.0,
        mismatch=mismatch(minibatches, stats, config.algo, ranks),
        lr=stats.lr,
        tokens=Tokens(prompt, sampled, sum(ranks.gather(stats.trained_tokens))),
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
        others={key: stats.mean(key) for key in stats.sums if key not in of_policy} | others,
        independent=independent,
        eval_before=evaluations.get("eval_before"),
        eval=evaluations.get("eval"),
    )
