"""NativeGame: what the C++ games have in common. A game is one file beside this one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.batch import _C, Batch, distinct_seeds, make
from lamer_fast.envs.entry import Entry
from lamer_fast.envs.native.text_env import NativeTextEnv
from lamer_fast.fields import Range

Kinds = type | tuple[type, ...]
RewardSets = Mapping[str, Mapping[str, float]]
REWARD = Range(-1_000_000, 1_000_000)  # of one figure

COMMON: dict[str, Kinds] = {
    "rewards": (str, dict),
    "turn_reward": str,
    "stop_at_done": bool,
    "autoreset": str,
    "height": int,
    "width": int,
}


class NativeGame(Entry):
    """A game in C++.

    Attributes:
        reward_sets: name -> figures, as the native class has them; those of 0 may be left out.
        batch_options: what `make` takes for it, with types; the defaults are those of the native class.
        text_env: its boards as a TextBatchEnv.
        moves_per_turn: moves that one reply may hold, by default and at most.
    """

    batch_options: ClassVar[Mapping[str, Kinds]]
    text_env: ClassVar[type[NativeTextEnv]]
    moves_per_turn: ClassVar[tuple[int, int]]
    reward_sets: ClassVar[RewardSets]

    @abstractmethod
    def batch_class(self, config: Mapping[str, Any]) -> type[Batch]:
        """The native class for a configuration of `make`; ValueError where its values do not go together."""

    @abstractmethod
    def board_settings(self, options: Any) -> dict[str, Any]:
        """What decides the boards, as keyword arguments of `make`."""

    def play_settings(self, options: Any) -> dict[str, Any]:
        """What decides the game on them, likewise."""
        figures = {name: getattr(options, f"reward_{name}") for name in self.reward_sets["lamer"]}
        given = {name: value for name, value in figures.items() if value is not None}
        named = options.rewards
        return {"rewards": dict(self.reward_sets[named]) | given if given else named}

    def make(self, options: Any, num_envs: int, split: str | None = None) -> NativeTextEnv:
        config = self.board_settings(options) | self.play_settings(options)
        batch = make(self.name, num_envs, split=split, style=options.style, **config)
        moves = getattr(options, "moves_per_turn", self.moves_per_turn[0])
        return self.text_env(batch, prompt=options.prompt, moves_per_turn=moves)

    def num_tasks(self, options: Any, split: str | None) -> int | None:
        batch = make(self.name, 1, num_threads=1, split=split, **self.board_settings(options))
        count, exact = batch.num_tasks(num_draws=0)
        return int(count) if exact else None

    def seeds(self, options: Any, split: str | None, count: int | None) -> NDArray[np.uint64]:
        return distinct_seeds(self.name, split, count, **self.board_settings(options))

    def bound(
        self, options: Any, split: str | None, seeds: NDArray[np.uint64], max_turns: int, episodes: int
    ) -> NDArray[np.float64] | None:
        if not self.has_bound(options):
            return None
        batch = make(self.name, len(seeds), split=split, **self.board_settings(options))
        batch.reset(seeds)
        try:
            return self.best_chances(batch, max_turns, episodes)
        except _C.TooLarge:
            return None

    @abstractmethod
    def best_chances(self, batch: Any, max_turns: int, episodes: int) -> NDArray[np.float64]:
        """[E, episodes]: `bound` on the boards of `batch`, whose options hide something.

        Raises:
            TooLarge: the exact search would take too long.
        """
