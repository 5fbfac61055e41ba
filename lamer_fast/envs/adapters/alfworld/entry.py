"""ALFWorld's entry: options, splits and panels, and the check of downloaded files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.alfworld.board import Board
from lamer_fast.envs.adapters.alfworld.compare import compare
from lamer_fast.envs.adapters.alfworld.data import check_folder
from lamer_fast.envs.adapters.alfworld.expert import AlfworldExpert
from lamer_fast.envs.adapters.alfworld.games import FIRST4, MADE, folder_of, games, listed, types_of
from lamer_fast.envs.adapters.alfworld.native import NativeAlfworld
from lamer_fast.envs.adapters.alfworld.words import words
from lamer_fast.envs.adapters.world import World
from lamer_fast.envs.expert import Expert
from lamer_fast.envs.options import PoolOptions
from lamer_fast.envs.pool import AsyncEnvPool, EnvPool
from lamer_fast.envs.protocol import TextBatchEnv


@dataclass(frozen=True)
class Options(PoolOptions):
    name: str = "alfworld"
    """This environment."""
    data: str | None = None
    """Folder of the games; by default $ALFWORLD_DATA/json_2.1.1. `made:small`, `made:full`: our own games."""
    task_types: str = ",".join(FIRST4)
    """Types of task, separated by commas: pick, look, clean, heat, cool, pick2."""
    panels: Literal["rooms", "first4/seen", "first4/unseen", "cool+pick2"] = "rooms"
    """rooms: valid plays rooms seen in training, test others. Otherwise both play the named panel."""

    engine: Literal["native", "package"] = "native"
    """Our stepper, equal to the package text for text (`envs compare`), or the package itself."""

    def validate(self) -> None:
        types_of(self.task_types)


class Alfworld(World):
    """Household tasks in text (ALFWorld, by our stepper or its package): six types, in rooms seen or not."""

    name = "alfworld"
    options = Options
    packages = MappingProxyType({"alfworld": "alfworld"})
    success = "the task is done, as the package says"
    turns = "none of its own; a recipe's rollout.max_turns is 10, as the paper's"

    def make(self, options: Options, num_envs: int, split: str | None = None) -> TextBatchEnv:
        found = names(options, split)
        if options.engine == "native":
            return NativeAlfworld(options.data, found, num_envs, options.prompt)
        self.check_installed(options)
        made: TextBatchEnv = (EnvPool if options.wait_for_all else AsyncEnvPool)(options, num_envs, split)
        return made

    def board(self, options: Options, split: str | None) -> Board:
        return Board(games(options.data), names(options, split), options.prompt)

    def num_tasks(self, options: Options, split: str | None) -> int:
        return len(names(options, split))

    def seeds(self, options: Options, split: str | None, count: int | None) -> NDArray[np.uint64]:
        found = self.num_tasks(options, split)
        return np.arange(found if count is None else min(count, found), dtype=np.uint64)

    def words(self, options: Options) -> list[str]:
        """Of made games; what the download says is for a tokenizer that knows English."""
        return words() if (options.data or "").startswith(MADE) else []

    def expert(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> Expert:
        return AlfworldExpert(env, noise, memory, num_trials, rng)

    def summary(self, options: Options) -> str:
        source = f", {options.data}" if (options.data or "").startswith(MADE) else ""
        return f"alfworld, {options.task_types}{source}"

    def compare(
        self, options: Options, path: Path | None, split: str, turns: int, seed: int
    ) -> Iterator[str]:
        self.check_installed(options)
        given = options if path is None else replace(options, data=str(path))
        return compare(given.data, names(given, split), turns, seed)

    def data(self, options: Options, path: Path | None) -> Iterator[str]:
        if path is None and (options.data or "").startswith(MADE):
            raise ValueError(f"env.data = {options.data!r}: these games are made as they are played")
        return check_folder(path or folder_of(options.data))


def names(options: Options, split: str | None) -> tuple[str, ...]:
    """Of the games of a split, in the order of its seeds."""
    return listed(options.data, split, options.panels, options.task_types)


ENTRY = Alfworld()
