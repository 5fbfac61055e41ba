"""Splits of an environment that has none of its own: a task belongs to one of them by a hash of its id."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.player import Player

TENTHS = {"train": (0, 8), "valid": (8, 9), "test": (9, 10)}
MAX_DRAWS = 1000  # tasks of other splits in a row before it is an error
PATIENCE = 512  # boards in a row without a new task after which all are taken to be known
FEW = 32  # tasks, of which PATIENCE boards in a row would have shown another
AT_ONCE = 64

Seeds = NDArray[np.uint64]
Boards = NDArray[np.int64]


def in_split(tasks: Seeds, split: str) -> NDArray[np.bool_]:
    """[B] whether a task is of the split: a tenth of all are `valid`, a tenth `test`."""
    tenth = ((mixed(tasks) >> np.uint64(32)) * np.uint64(10)) >> np.uint64(32)
    first, end = TENTHS[split]
    return (tenth >= np.uint64(first)) & (tenth < np.uint64(end))


def mixed(x: Seeds) -> Seeds:
    """The finaliser of SplitMix64: every bit of the result depends on every bit of `x`."""
    x = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class SplitEnv:
    """`env` with the tasks of one split alone; everything but `reset` is the environment's.

    With `tasks` a seed whose task is of another split leads to a next seed, and so on. Without, nobody knows
    which boards are the same task: the splits have seeds of their own, which is all that can be said.
    """

    def __init__(self, env: Any, split: str) -> None:
        self._env, self._split = env, split

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, seeds: Seeds, env_idx: Boards | None = None) -> None:
        boards = np.arange(self._env.num_envs) if env_idx is None else np.asarray(env_idx)
        if not hasattr(self._env, "tasks"):
            salt = np.uint64(1 + list(TENTHS).index(self._split))
            self._env.reset(mixed(mixed(seeds) + salt), boards)
            return
        left, draws = np.arange(len(boards)), np.array(seeds, np.uint64)
        seen: set[int] = set()
        since_new = 0
        for number in range(1, MAX_DRAWS + 1):
            self._env.reset(draws[left], boards[left])
            tasks = self._env.tasks(boards[left])
            since_new = since_new + len(tasks) if seen.issuperset(tasks.tolist()) else 0
            seen.update(tasks.tolist())
            left = left[~in_split(tasks, self._split)]
            if not left.size:
                return
            if number == MAX_DRAWS or (len(seen) <= FEW and since_new > PATIENCE):
                raise EnvError(
                    f"no task of split {self._split!r} in {number} draws from seed {seeds[left[0]]}, which "
                    f"showed {len(seen)} tasks: the environment has too few tasks"
                )
            draws[left] = mixed(draws[left])


def distinct_seeds(env: Any, count: int) -> Seeds:
    """The first seeds, from 0, of as many distinct tasks, or of all that are found on AT_ONCE boards."""
    if not hasattr(env, "tasks"):
        return np.arange(count, dtype=np.uint64)
    seen: set[int] = set()
    found: list[int] = []
    first, last_new = 0, 0
    player = Player(env)
    while len(found) < count and first - last_new <= PATIENCE:
        seeds = np.arange(first, first + AT_ONCE, dtype=np.uint64)
        player.reset(seeds, player.all)
        for seed, task in zip(seeds.tolist(), player.tasks(player.all).tolist(), strict=True):
            if task not in seen:
                seen.add(task)
                found.append(seed)
                last_new = seed
        first += AT_ONCE
    return np.array(found[:count], np.uint64)
