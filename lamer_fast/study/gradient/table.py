"""Whole trials as one table of turns, and batches of some of them as the trainer sees them.

Axis letters: B boards, M trials, R turns, K episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.rollout.trial_batch import TrialBatch


@dataclass(frozen=True)
class Table:
    """Turns of a trial are neighbours, in time order; trials of a board too."""

    turns: dict[str, NDArray[Any]]  # reward, episode, turn, phase, anchor, success, done, tokens, ... -> [R]
    cu_trials: NDArray[np.int64]  # [M+1]
    board: NDArray[np.int64]  # [M] 0..B-1
    seeds: NDArray[np.uint64]  # [B]
    success_by_episode: NDArray[np.bool_]  # [M, K]

    @property
    def num_trials(self) -> int:
        return len(self.board)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[M] turns."""
        return np.diff(self.cu_trials)

    @property
    def trial(self) -> NDArray[np.int64]:
        """[R]"""
        return np.repeat(np.arange(self.num_trials), self.lengths)

    def rows(self, trials: NDArray[np.int64]) -> NDArray[np.int64]:
        """The turns of some trials, end to end."""
        lengths = self.lengths[trials]
        ends = np.cumsum(lengths)
        return np.asarray(np.arange(ends[-1]) + np.repeat(self.cu_trials[trials] - (ends - lengths), lengths))

    def batch(self, trials: NDArray[np.int64], group: NDArray[np.int32]) -> TrialBatch:
        """Such trials as the trainer sees them: `trials` [M] of this table, `group` [M] of each."""
        rows, lengths = self.rows(trials), self.lengths[trials]
        of = {name: column[rows] for name, column in self.turns.items()}
        trial = np.repeat(np.arange(len(trials), dtype=np.int32), lengths)
        cu_tokens = np.concatenate([[0], np.cumsum(of["tokens"], dtype=np.int64)])
        cu_trials = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        R, T = len(rows), int(cu_tokens[-1])
        board = self.board[trials]
        return TrialBatch(
            tokens=np.zeros(T, np.int32),
            loss_mask=np.ones(T, bool),
            rollout_logprobs=np.zeros(T, np.float32),
            cu_seqlens=cu_tokens[cu_trials],
            group=group[trial],
            trial=trial,
            episode=of["episode"],
            turn=of["turn"],
            phase=of["phase"],
            rewards=of["reward"],
            anchors=of["anchor"],
            valid=of.get("valid", np.ones(R, bool)),
            done=of["done"],
            success=of["success"],
            truncated=np.zeros(R, bool),
            sequence=trial,
            token_start=cu_tokens[:-1],
            token_end=cu_tokens[1:],
            policy_version=np.zeros(R, np.int32),
            cu_trials=cu_trials,
            seed=self.seeds[board],
            task=board.astype(np.uint64),
            success_by_episode=self.success_by_episode[trials],
            errors={},
        )

    def every(self) -> TrialBatch:
        """All trials, a board a group."""
        return self.batch(np.arange(self.num_trials), self.board.astype(np.int32))
