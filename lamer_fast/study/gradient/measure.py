"""Many updates of every estimator on one world, policy and group size, against the true gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.study.gradient.estimators import Estimator, advantages, draw, turn_weights, values
from lamer_fast.study.gradient.minds import NOTHING
from lamer_fast.study.gradient.moments import BLOCKS, Moments
from lamer_fast.study.gradient.objectives import claimed, success
from lamer_fast.study.gradient.policy import Array, chances, log_softmax, score_sums, true_gradient
from lamer_fast.study.gradient.tree import Tree

WHOLE = "all"
CLAIM, SUCCESS = "claimed", "success"


def parts(tree: Tree) -> dict[str, NDArray[np.bool_]]:
    """[X] parts of the policy: plays that remember nothing, notes, plays that remember; and all of it."""
    remembers = np.array([memory != NOTHING for _, memory in tree.seen])
    found = {
        WHOLE: np.ones(len(remembers), bool),
        "blank": ~remembers & ~tree.reflects,
        "notes": tree.reflects,
        "informed": remembers & ~tree.reflects,
    }
    return {name: rows for name, rows in found.items() if rows.any()}


def measure(
    tree: Tree, logits: Array, arms: Sequence[Estimator], *, groups: int, size: int, updates: int, seed: int
) -> dict[str, Mapping[str, Moments]]:
    """By arm and part of the policy, over `updates` (a multiple of BLOCKS) updates of `groups` x `size`
    trials. All arms see the same trials, whichever arms there are."""
    rng = np.random.default_rng(seed)
    chance, probabilities = chances(tree, logits), np.exp(log_softmax(logits, tree.allowed))
    of_part = parts(tree)
    goal = true_gradient(tree, logits, success)
    found: dict[str, Mapping[str, Moments]] = {}
    for arm in arms:
        own = true_gradient(tree, logits, claimed(arm.algo, size)[1])
        found[arm.name] = {
            part: Moments({CLAIM: own[rows], SUCCESS: goal[rows]}) for part, rows in of_part.items()
        }
    critics = {arm.name: values(tree, logits, arm) for arm in arms}
    for _ in range(BLOCKS):
        block = Block(tree, draw(tree, chance, groups * (updates // BLOCKS), size, rng), groups, size)
        for arm in arms:
            gradients = block.gradients(arm, critics[arm.name], probabilities)
            for part, rows in of_part.items():
                found[arm.name][part].add(gradients[:, rows].reshape(len(gradients), -1))
    return found


class Block:
    """Some updates, whose trials are `drawn` from the tree."""

    def __init__(self, tree: Tree, drawn: NDArray[np.int64], groups: int, size: int) -> None:
        self.tree, self.drawn, self.of_update = tree, drawn, groups * size
        self.num_updates = len(drawn) // self.of_update
        self.rows = tree.rows(drawn)
        self.trials = self._batch(drawn, size)
        self.update = self.trials.trial.astype(np.int64) // self.of_update  # [R]
        self.each = [self._batch(one, size) for one in drawn.reshape(-1, self.of_update)]

    def gradients(self, arm: Estimator, critic: NDArray[np.float32] | None, probabilities: Array) -> Array:
        """[updates, X, A]; `critic` is of every turn of the tree."""
        known = None if critic is None else critic[self.rows]
        if arm.over_batch:
            ends = np.cumsum([one.num_turns for one in self.each])[:-1]
            cut = [None] * self.num_updates if known is None else np.split(known, ends)
            of_turn = np.concatenate(
                [self.weighted(one, arm, own) for one, own in zip(self.each, cut, strict=True)]
            )
        else:
            of_turn = self.num_updates * self.weighted(self.trials, arm, known)
        return score_sums(self.tree, probabilities, of_turn, self.rows, self.update, self.num_updates)

    def weighted(self, trials: TrialBatch, arm: Estimator, known: NDArray[np.float32] | None) -> Array:
        return np.asarray(advantages(trials, arm, known).astype(np.float64) * turn_weights(trials, arm))

    def _batch(self, drawn: NDArray[np.int64], size: int) -> TrialBatch:
        return self.tree.batch(drawn, np.arange(len(drawn), dtype=np.int32) // np.int32(size))
