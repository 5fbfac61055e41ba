"""Two treasures lie under a board of cells. Digging shows how far the nearest one is; finding one wins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs import Range, TurnOut, with_noise
from lamer_fast.envs.replies import action

CELL = re.compile(r"\((\d), (\d)\)")


@dataclass(frozen=True)
class Options:
    height: Annotated[int, Range(1, 9)] = 5
    """Rows of the board."""
    width: Annotated[int, Range(2, 9)] = 3
    """Columns of the board."""


def make(options: Options, num_envs: int) -> Treasure:
    """Dig for two hidden treasures by their distance."""
    return Treasure(num_envs, options.height, options.width)


class Treasure:
    def __init__(self, num_envs: int, height: int, width: int) -> None:
        self.num_envs, self.shape = num_envs, (height, width)
        self.distances = np.zeros((num_envs, height, width), np.int64)  # to the nearest treasure
        self.dug = np.zeros((num_envs, height, width), bool)

    def reset(self, seeds: NDArray[np.uint64], env_idx: NDArray[np.int64] | None = None) -> None:
        boards = np.arange(self.num_envs) if env_idx is None else env_idx
        cells = np.argwhere(np.ones(self.shape))
        for board, seed in zip(boards, seeds, strict=True):
            hidden = np.random.default_rng(int(seed)).choice(cells, 2, replace=False)
            steps = np.abs(cells[:, None] - hidden).sum(axis=2).min(axis=1)
            self.distances[board] = steps.reshape(self.shape)
        self.restart(boards)

    def restart(self, env_idx: NDArray[np.int64]) -> None:
        self.dug[env_idx] = False

    def step(self, replies: Sequence[str], env_idx: NDArray[np.int64]) -> TurnOut:
        before, valid = self._won(env_idx), np.zeros(len(replies), bool)
        for b, (board, reply) in enumerate(zip(env_idx, replies, strict=True)):
            cell = CELL.search(action(reply) or "")
            valid[b] = cell is not None
            if cell and not before[b]:  # a finished board ignores its reply
                row, column = int(cell[1]) - 1, int(cell[2]) - 1
                if 0 <= row < self.shape[0] and 0 <= column < self.shape[1]:
                    self.dug[board, row, column] = True
        won = self._won(env_idx)
        rewards = np.where(won & ~before, 1.0, 0.0).astype(np.float32)
        nothing = np.zeros(len(replies), bool)
        return TurnOut(rewards, won, nothing, won.copy(), valid, [None] * len(replies))

    def observe(self, env_idx: NDArray[np.int64]) -> list[str]:
        shown = np.where(self.dug, np.minimum(self.distances, 5), -1)
        symbol = {-1: "?", 0: "*"}
        rows = [
            [" ".join(symbol.get(d, str(d)) for d in row) for row in shown[board].tolist()]
            for board in env_idx
        ]
        return ["\n".join(f"Row {r}: {text}" for r, text in enumerate(texts, 1)) for texts in rows]

    def task_prompt(self) -> str:
        return f"Dig {self.shape[0]}x{self.shape[1]}.\n<action>(row, column)</action>"

    def tasks(self, env_idx: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Where the treasures lie, as bits: what keeps training and evaluation apart."""
        bits = (self.distances[env_idx] == 0).reshape(len(env_idx), -1)
        return (bits @ (1 << np.arange(bits.shape[1]))).astype(np.uint64)

    def legal_actions(self, env_idx: NDArray[np.int64]) -> list[list[str]]:
        won = self._won(env_idx)
        return [
            [] if over else [f"<action>({r + 1}, {c + 1})</action>" for r, c in np.argwhere(~self.dug[board])]
            for board, over in zip(env_idx, won, strict=True)
        ]

    def expert_replies(
        self, env_idx: NDArray[np.int64], noise: float | NDArray[np.float32], seeds: NDArray[np.uint64]
    ) -> list[str]:
        """For a warm start: digs the treasures up. Who imitates it learns where they may lie."""
        cells = [np.argwhere(self.distances[board] == 0) for board in env_idx]
        dug_up = [cell[int(seed) % len(cell)] for cell, seed in zip(cells, seeds, strict=True)]
        replies = [f"<action>({r + 1}, {c + 1})</action>" for r, c in dug_up]
        return with_noise(replies, self.legal_actions(env_idx), noise, seeds)

    def _won(self, env_idx: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray((self.dug & (self.distances == 0))[env_idx].any(axis=(1, 2)))
