"""Panel: the tasks that an evaluation plays, with a digest, so that two can say that they played the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.player import Player
from lamer_fast.envs.registry import eval_seeds, make_env

AT_ONCE = 256


@dataclass(frozen=True)
class Panel:
    """Distinct tasks of one split, in the order in which they are played."""

    env: str
    """`env.name`."""
    split: str
    seeds: NDArray[np.uint64]
    """[tasks], for `reset`."""
    tasks: NDArray[np.uint64]
    """[tasks], their ids; of an environment without `tasks`, hashes of what the boards show at first."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the environment's name and the ids: the same on every machine."""
        content = self.env.encode() + b"\0" + self.tasks.astype("<u8").tobytes()
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self.seeds)


def panel(options: EnvOptions, split: str, count: int | None, *, at_most: int | None = None) -> Panel:
    """The first `count` distinct tasks of a split; None: all there are, up to `at_most`."""
    seeds = eval_seeds(options, split, count, at_most=at_most)
    env: Any = make_env(options, max(1, min(len(seeds), AT_ONCE)), split=split)
    player = Player(env)
    parts = [_tasks(player, seeds[i : i + AT_ONCE]) for i in range(0, len(seeds), AT_ONCE)]
    return Panel(options.name, split, seeds, np.concatenate([np.zeros(0, np.uint64), *parts]))


def _tasks(player: Player, seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
    boards = player.all[: len(seeds)].copy()
    player.reset(seeds.copy(), boards)
    if player.has("tasks"):
        return player.tasks(boards)
    texts, asked = player.observe(boards), player.task_texts(boards)
    whole = [f"{task}\0{text}".encode() for task, text in zip(asked, texts, strict=True)]
    return np.array(
        [int.from_bytes(hashlib.blake2b(w, digest_size=8).digest(), "little") for w in whole], np.uint64
    )
