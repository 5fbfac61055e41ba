"""What a trial is worth, by the objectives that estimators claim to climb and by the one that users read."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import AlgoConfig
from lamer_fast.study.gradient.policy import Array, Objective
from lamer_fast.study.gradient.table import Table


def success(table: Table, chance: Array) -> Array:
    """success@K: a win within the episodes of the trial."""
    return np.asarray(table.success_by_episode.any(axis=1), np.float64)


def discounted(table: Table, chance: Array, *, gamma_step: float, gamma_traj: float) -> Array:
    """sum of gamma_traj^n gamma_step^t r: LaMer's objective, the return at the start of the trial."""
    t = table.turns
    factor = np.float64(gamma_traj) ** t["episode"] * np.float64(gamma_step) ** t["turn"]
    return np.asarray(np.add.reduceat(factor * t["reward"], table.cu_trials[:-1]))


def total(table: Table, chance: Array) -> Array:
    """The rewards of all episodes."""
    return discounted(table, chance, gamma_step=1.0, gamma_traj=1.0)


def last_episode(table: Table, chance: Array) -> Array:
    """The rewards of the last episode that was played."""
    t, ends = table.turns, table.cu_trials[1:] - 1
    last = np.repeat(t["episode"][ends], table.lengths) == t["episode"]
    return np.asarray(np.add.reduceat(np.where(last, t["reward"], 0.0), table.cu_trials[:-1]), np.float64)


def of_k_trials(table: Table, chance: Array, *, k: int) -> Array:
    """That one of k independent trials wins: 1 - (1 - p)^k, whose gradient is k (1 - p)^(k - 1) that of p."""
    won = success(table, chance)
    p = np.bincount(table.board, chance * won, len(table.seeds))
    return np.asarray(won * k * (1 - p[table.board]) ** (k - 1))


def claimed(algo: AlgoConfig, trials_per_group: int) -> tuple[str, Objective]:
    """(name, objective) that an estimator says it climbs."""
    if algo.estimator == "pass_at_k":
        if algo.pass_over == "episodes":
            return "success@K", success
        k = algo.pass_k or trials_per_group
        return f"pass@{k} of trials", partial(of_k_trials, k=k)
    if algo.rewards == "last_episode":
        return "last episode", last_episode
    if algo.estimator == "opo" or algo.episode_credit == "own":
        return "all rewards", total
    return "discounted", partial(discounted, gamma_step=algo.gamma_step, gamma_traj=algo.gamma_traj)


def within(table: Table, chance: Array) -> NDArray[np.float64]:
    """[K] success@1..K."""
    won = np.logical_or.accumulate(table.success_by_episode, axis=1)
    return np.asarray(chance @ won / len(table.seeds))
