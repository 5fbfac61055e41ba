"""Regret: how far a policy is from the best that any player could do who does not know what is hidden.

Some worlds know that bound exactly, board by board (`Entry.bound`). It is the bound of each number of
episodes for itself: the player who wins the second one most often is not the one who wins the first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import Config
from lamer_fast.envs.panel import Panel
from lamer_fast.envs.registry import entry
from lamer_fast.eval.intervals import difference
from lamer_fast.eval.success import Evaluation


def has_bound(config: Config) -> bool:
    known: bool = entry(config.env.name).has_bound(config.env)
    return known


def bound_of(config: Config, played: Panel) -> NDArray[np.float64] | None:
    """[tasks, K], the greatest chance of a success within 1..K episodes; None where it is not known."""
    rollout = config.evaluation().rollout
    game = entry(config.env.name)
    found: NDArray[np.float64] | None = game.bound(
        config.env, played.split, played.seeds, rollout.max_turns, rollout.episodes
    )
    return found


def with_regret(found: Evaluation, bound: NDArray[np.float64] | None) -> Evaluation:
    """The evaluation with the bound's means, and with its regret to it, paired by task."""
    if bound is None or found.by_task is None:
        return found
    within = np.array(found.by_task.trial)
    regret = [difference(bound[:, k] - within[:, k]) for k in range(within.shape[1])]
    return replace(found, bound=bound.mean(axis=0).tolist(), regret=regret)
