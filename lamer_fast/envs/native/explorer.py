"""The best explorer of hidden controls: the bound that it gives, as a teacher, and as who gives hints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.guide import Guide
from lamer_fast.envs.native.controls import Beliefs, Boards, ControlsExpert, Repeats

TIE = 1e-9  # values are sums over rules by how likely they are: closer ones are equal


def bound(batch: Any, max_turns: int, episodes: int) -> NDArray[np.float64]:
    """[E, episodes]: the greatest chance of a success within 1, 2, ... episodes, over all rules."""
    nothing = Beliefs(batch).repeats
    turns = np.full(batch.num_envs, max_turns, np.int32)
    left = [np.full(batch.num_envs, k, np.int32) for k in range(1, episodes + 1)]
    return np.stack([batch.explore(nothing, turns, k, max_turns=max_turns).max(axis=1) for k in left], axis=1)


class ExplorerExpert(ControlsExpert):
    """Says a word of the greatest chance to win within the trial, any of the equal ones; noise apart.

    Without a memory it plays each episode as if it were the first and the last.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator,
        *, max_turns: int, episodes: int,
    ) -> None:  # fmt: skip
        super().__init__(env, noise, memory, num_trials, rng)
        self.max_turns, self.episodes = max_turns, episodes
        self.taken = np.zeros(num_trials, np.int32)  # turns of this episode
        self.over = np.zeros(num_trials, np.int32)  # episodes that are over

    def right(self, trials: Boards, repeats: Repeats) -> NDArray[np.float64]:
        turns = self.max_turns - self.taken[trials]
        later = np.where(self.remembers[trials], self.episodes - 1 - self.over[trials], 0)
        values = self.env.batch.explore(repeats, turns, later + 1, max_turns=self.max_turns, env_idx=trials)[
            :, : self.num_words
        ]
        self.taken[trials] += 1
        return np.asarray(values >= values.max(axis=1, keepdims=True) - TIE, np.float64)

    def reflect(self, trials: Boards) -> list[str]:
        self.taken[trials] = 0
        self.over[trials] += 1
        return super().reflect(trials)


class ControlsGuide(Guide):
    """Gives hints to a player of board 0, from what this player has seen in the trial."""

    def __init__(self, env: Any, max_turns: int, episodes: int) -> None:
        self.env, self.max_turns, self.episodes = env, max_turns, episodes
        self.beliefs = Beliefs(env.batch)
        self.board = np.zeros(1, np.int64)

    def look(self) -> None:
        self.beliefs.look(self.board)

    def learn(self, reply: str) -> None:
        words, _, valid = self.env.batch.parse([reply], max_actions=1)
        self.beliefs.learn(self.board, np.where(valid, words[:, 0], np.int32(-1)))

    def hint(self, turn: int, episode: int) -> tuple[str, float]:
        turns = np.array([self.max_turns - turn], np.int32)
        episodes = np.array([self.episodes - episode], np.int32)
        repeats = self.beliefs.repeats[self.board]
        values = self.env.batch.explore(
            repeats, turns, episodes, max_turns=self.max_turns, env_idx=self.board
        )[0]
        return self.env.reply([int(values.argmax())]), float(values.max())

    def memory(self) -> Repeats:
        return self.beliefs.repeats.copy()

    def recall(self, memory: Repeats) -> None:
        self.beliefs.repeats = memory.copy()
