"""What a turn was worth, and what an estimator says of it: both by the branches before and after it.

The true advantage of a turn is the mean value of the trials that go on after it, less the mean of those that
go on from before it. What an estimator says on average is found in the same way: its advantage of the turn
over all that may follow and over the other trials of the group, less what it says there of the policy's other
actions, which pushes nowhere. Branches come in two halves that share nothing. A product of one half with the
other has no noise of Monte Carlo in its mean, so that nothing has to be taken off.

Axis letters: N turns, M branches, G trials of a group.
"""

from __future__ import annotations

import numpy as np

from lamer_fast.study.gradient.branched import Branched, Ids
from lamer_fast.study.gradient.estimators import Estimator, advantages
from lamer_fast.study.gradient.policy import Array, Objective

HALVES = 2


def true_advantages(board: Branched, objective: Objective) -> tuple[Array, Array]:
    """([N, 2] by either half of the branches, [N] one standard error of their mean)."""
    value = objective(board.table, of_starts(board))
    after, before = value[board.after], value[board.before]
    M = after.shape[1]
    spread = after.var(axis=1, ddof=1) / M + before.var(axis=1, ddof=1) / M
    starts = board.place == 0  # all from one state, which they share
    pooled = before[starts]
    spread[starts] = after[starts].var(axis=1, ddof=1) / M + pooled.var(ddof=1) / pooled.size
    left = by_half(before)
    left[starts] = left[starts].mean(axis=0)
    return by_half(after) - left, np.sqrt(spread)


def of_starts(board: Branched) -> Array:
    """[trials] chance of each as far as is known: the branches from the start are drawn as trials are."""
    starts = board.before[board.place == 0]
    chance = np.zeros(board.table.num_trials)
    chance[starts] = 1 / starts.size
    return chance


def by_half(values: Array) -> Array:
    """[N, M] -> [N, 2]: branches 0, 2, 4, ... and 1, 3, 5, ..."""
    return np.stack([values[:, half::HALVES].mean(axis=1) for half in range(HALVES)], axis=1)


def partners(board: Branched, rng: np.random.Generator) -> Ids:
    """[N, M, G-1] the rest of a group for each branch: from the start on, of its half, one of each other
    trial's."""
    starts = board.before[board.place == 0]  # [G, M]
    (G, M), N = starts.shape, len(board.place)
    others = np.array([[other for other in range(G) if other != own] for own in range(G)]).reshape(G, G - 1)
    drawn = rng.integers(M // HALVES, size=(N, M, G - 1)) * HALVES + (np.arange(M) % HALVES)[:, None]
    return np.asarray(starts[others[board.trial][:, None, :], drawn])


def said(board: Branched, arm: Estimator, rest: Ids) -> tuple[Array, Array]:
    """([N, 2] what the arm says of each turn on average, by halves; [N] what it says in the group itself)."""
    after, before = (_said(board, arm, trials, rest) for trials in (board.after, board.before))
    G = rest.shape[2] + 1
    as_played = advantages(board.table.batch(np.arange(G), np.zeros(G, np.int32)), arm)
    return by_half(after) - by_half(before), as_played.astype(np.float64)


def _said(board: Branched, arm: Estimator, trials: Ids, rest: Ids) -> Array:
    """[N, M] of the turn `place` of each of `trials` [N, M] in its own group with `rest` [N, M, G-1]."""
    N, M, others = rest.shape
    groups = np.concatenate([trials[:, :, None], rest], axis=2).reshape(N * M, 1 + others)
    batch = board.table.batch(groups.ravel(), np.repeat(np.arange(N * M, dtype=np.int32), 1 + others))
    rows = batch.cu_trials[:-1].reshape(N * M, 1 + others)[:, 0] + np.repeat(board.place, M)
    return advantages(batch, arm)[rows].reshape(N, M).astype(np.float64)
