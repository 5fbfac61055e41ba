"""A softmax policy that is a table of logits, and what is exact of it: probabilities, values, gradients.

Axis letters: M trials, R turns, X rows, A actions. A policy is its logits [X, A] float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.study.gradient.table import Table
from lamer_fast.study.gradient.tree import Tree

Array = NDArray[np.float64]
Objective = Callable[[Table, Array], Array]
"""(table, chance of each trial [M]) -> what each trial counts in the gradient [M]: the value of a trial,
where the objective is its mean."""


def random_policy(tree: Tree, seed: int, spread: float) -> Array:
    """Near the uniform one: logits of standard deviation `spread`."""
    return np.random.default_rng(seed).normal(0.0, spread, tree.allowed.shape)


def log_softmax(logits: Array, allowed: NDArray[np.bool_]) -> Array:
    """[X, A], -inf for what a row does not have."""
    masked = np.where(allowed, logits, -np.inf)
    masked = masked - masked.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.asarray(masked - np.log(np.exp(masked).sum(axis=1, keepdims=True)))


def chances(tree: Tree, logits: Array) -> Array:
    """[M] probability of each trial, given its board."""
    of_turn = log_softmax(logits, tree.allowed)[tree.turns["row"], tree.turns["action"]]
    return np.asarray(np.exp(np.add.reduceat(of_turn, tree.cu_trials[:-1])))


def mean_over_trials(tree: Tree, chance: Array, values: Array) -> float:
    """Over boards, each as likely as the others, and their trials."""
    return float((chance * values).sum() / len(tree.seeds))


def score_sums(
    tree: Tree,
    probabilities: Array,
    of_turn: Array,
    turns: Any = slice(None),
    update: NDArray[np.int64] | int = 0,
    num_updates: int = 1,
) -> Array:
    """[updates, X, A]: the sums over `turns` of this table, all by default, of `of_turn` x the gradient of
    the turn's log-probability. `update` says which sum each belongs to; `probabilities` [X, A] are the
    policy's."""
    X, A = tree.allowed.shape
    places = (update * X + tree.turns["row"][turns]) * A + tree.turns["action"][turns]
    taken = np.bincount(places, of_turn, num_updates * X * A).reshape(num_updates, X, A)
    return np.asarray(taken - taken.sum(axis=2, keepdims=True) * probabilities)


def true_gradient(tree: Tree, logits: Array, objective: Objective) -> Array:
    """[X, A]: sum over all trials of chance x value x the gradient of the trial's log-probability."""
    chance = chances(tree, logits)
    of_trial = chance * objective(tree, chance) / len(tree.seeds)
    probabilities = np.exp(log_softmax(logits, tree.allowed))
    return np.asarray(score_sums(tree, probabilities, np.repeat(of_trial, tree.lengths))[0])


def climbed(tree: Tree, logits: Array, objective: Objective, steps: int, length: float) -> Array:
    """After so many steps of this length along the true gradient."""
    for _ in range(steps):
        gradient = true_gradient(tree, logits, objective)
        logits = logits + length * gradient / max(float(np.linalg.norm(gradient)), 1e-300)
    return logits


def expected_by_place(tree: Tree, logits: Array, of_turn: Array) -> Array:
    """[R] mean of `of_turn` over all turns that see the same in the same place of a trial (row, episode,
    turn), weighed by their chance: what a perfect critic says of them."""
    t = tree.turns
    span = (int(t["episode"].max()) + 1, int(t["turn"].max()) + 1)
    place = (t["row"] * span[0] + t["episode"]) * span[1] + t["turn"]
    weight = np.repeat(chances(tree, logits), tree.lengths)
    total = np.bincount(place, weight)
    mean = np.bincount(place, weight * of_turn) / np.where(total > 0, total, 1)
    return np.asarray(mean[place])
