"""The gradient of one update by an estimator: the trainer's own credit on drawn trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lamer_fast.algo.credit import assign_credit, prepared
from lamer_fast.algo.gae import gae_credit, lambda_returns
from lamer_fast.config import AlgoConfig
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.study.gradient.policy import Array, expected_by_place
from lamer_fast.study.gradient.tree import Tree
from lamer_kernels import token_weights

Critic = Literal["exact", "zero"]


@dataclass(frozen=True)
class Estimator:
    """An arm of the lab.

    `critic`: estimator gae has the true values of what is seen, or none. `aggregation`: the trainer's, by
    tokens, where `sequences` says what one is; None is the plain sum over turns, over the number of trials.
    """

    name: str
    doc: str
    algo: AlgoConfig
    settings: Mapping[str, Any] = field(default_factory=dict)  # that differ from the defaults
    critic: Critic = "exact"
    aggregation: str | None = None
    sequences: Literal["turns", "trials"] = "turns"

    @property
    def over_batch(self) -> bool:
        """Whether what a turn counts depends on the other groups of its update."""
        a = self.algo
        whitens = a.estimator == "reinforce++" or (a.estimator == "gae" and a.scale != "none")
        return whitens or ":" in a.estimator or self.aggregation is not None


def draw(tree: Tree, chance: Array, groups: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[groups * size] trials: a board for each group, then `size` trials of it by their chances."""
    board = rng.integers(len(tree.seeds), size=groups)
    ends = np.searchsorted(tree.board, np.arange(len(tree.seeds)), side="right") - 1
    cumulative = np.cumsum(chance)  # each board adds 1, so that a board is an interval
    upto = cumulative[ends][board]
    before = np.where(board > 0, cumulative[ends[board - 1]], 0.0)
    at = before[:, None] + rng.random((groups, size)) * (upto - before)[:, None]
    drawn = np.searchsorted(cumulative, at.ravel(), side="right")
    first = np.searchsorted(tree.board, board)
    return np.asarray(np.clip(drawn, np.repeat(first, size), np.repeat(ends[board], size)))


def values(tree: Tree, logits: Array, arm: Estimator) -> NDArray[np.float32] | None:
    """[R] of every turn of the tree, by the arm's critic; None where its estimator has none."""
    if arm.algo.estimator != "gae":
        return None
    nothing = np.zeros(len(tree.turns["row"]), np.float32)
    if arm.critic == "zero":
        return nothing
    every, algo = prepared(tree.every(), arm.algo, 0.0)
    played = lambda_returns(every, nothing, algo, 1.0, 1.0)
    return expected_by_place(tree, logits, played.astype(np.float64)).astype(np.float32)


def advantages(
    trials: TrialBatch, arm: Estimator, values: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """[R] as the trainer computes them; `values` [R] of these turns."""
    if values is None:
        return assign_credit(trials, arm.algo)
    trials, algo = prepared(trials, arm.algo, 0.0)
    return gae_credit(trials, values, algo).advantages


def turn_weights(trials: TrialBatch, arm: Estimator) -> Array | float:
    """[R] what a turn's gradient is multiplied by: the weight of its tokens, or 1 over the trials."""
    if arm.aggregation is None:
        return 1 / trials.num_trials
    ends = trials.token_start[trials.cu_trials[:-1]] if arm.sequences == "trials" else trials.token_start
    offsets = torch.from_numpy(np.append(ends, trials.token_end[-1:]))
    weights = token_weights(
        arm.aggregation,
        torch.ones(int(offsets[-1]), dtype=torch.bool),
        cu_sequences=offsets if arm.aggregation == "sequence_mean" else None,
        constant=float(trials.num_turns) if arm.aggregation == "constant" else None,
    )
    return np.asarray(weights.numpy()[trials.token_start])
