"""The turn table of a rollout in progress: a column per field, [M, most turns of a trial]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS: dict[str, Any] = {
    "episode": np.int16, "turn": np.int16, "phase": np.uint8, "rewards": np.float32, "anchors": np.int64,
    "valid": np.bool_, "done": np.bool_, "success": np.bool_, "truncated": np.bool_, "sequence": np.int32,
    "token_start": np.int64, "token_end": np.int64, "policy_version": np.int32,
}  # fmt: skip


class TurnTable:
    """`sequence` counts within the trial here, and token offsets within the sequence."""

    def __init__(self, num_trials: int, max_turns: int) -> None:
        self.columns = {name: np.zeros((num_trials, max_turns), dtype) for name, dtype in COLUMNS.items()}
        self.num_turns = np.zeros(num_trials, np.int64)

    def append(self, trials: NDArray[np.int64], **values: NDArray[Any]) -> None:
        at = self.num_turns[trials]
        for name, column in self.columns.items():
            column[trials, at] = values[name]
        self.num_turns[trials] = at + 1

    def truncate(self, trial: int) -> None:
        """The trial's last turn ended it by a limit of tokens."""
        last = self.num_turns[trial] - 1
        self.columns["truncated"][trial, last] = True
        self.columns["done"][trial, last] |= self.columns["phase"][trial, last] == 0

    def clear(self, trial: int) -> None:
        self.num_turns[trial] = 0

    def flat(self) -> dict[str, NDArray[Any]]:
        """The columns as [R], trials one after another, with `trial` [R] and `cu_trials` [M+1]."""
        num_trials, max_turns = self.columns["turn"].shape
        used = np.arange(max_turns) < self.num_turns[:, None]
        flat = {name: column[used] for name, column in self.columns.items()}
        flat["trial"] = np.repeat(np.arange(num_trials, dtype=np.int32), self.num_turns)
        flat["cu_trials"] = np.concatenate(([0], np.cumsum(self.num_turns)))
        return flat
