"""ALFWorld's entry: options, splits and panels, and the check of downloaded files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.alfworld.board import Board
from lamer_fast.envs.adapters.alfworld.data import check_folder
from lamer_fast.envs.adapters.alfworld.games import FIRST4, MADE, folder_of, games, listed, types_of
from lamer_fast.envs.adapters.world import World
from lamer_fast.envs.options import PoolOptions
from lamer_fast.envs.pool import AsyncEnvPool, EnvPool
from lamer_fast.envs.protocol import TextBatchEnv


@dataclass(frozen=True)
class Options(PoolOptions):
    name: str = "alfworld"
    """This environment."""
    data: str | None = None
    """Folder of the games; none: $ALFWORLD_DATA/json_2.1.1. `made:small`, `made:full`: games of our own."""
    task_types: str = ",".join(FIRST4)
    """Types of task, by commas: pick, look, clean, heat, cool, pick2."""
    panels: Literal["rooms", "first4/seen", "first4/unseen", "cool+pick2"] = "rooms"
    """rooms: valid plays rooms seen in training, test others. Else both play that panel, of its own types."""

    def validate(self) -> None:
        types_of(self.task_types)


class Alfworld(World):
    """Household tasks in text (ALFWorld, by its package): six types, in rooms seen in training or not."""

    name = "alfworld"
    options = Options
    packages = MappingProxyType({"alfworld": "alfworld"})
    success = "the package says that the task is done"
    turns = "none of its own; a recipe's rollout.max_turns is 10, as the paper's"

    def make(self, options: Options, num_envs: int, split: str | None = None) -> TextBatchEnv:
        self.check_installed(options)
        names(options, split)
        made: TextBatchEnv = (EnvPool if options.wait_for_all else AsyncEnvPool)(options, num_envs, split)
        return made

    def board(self, options: Options, split: str | None) -> Board:
        return Board(games(options.data), names(options, split), options.prompt)

    def num_tasks(self, options: Options, split: str | None) -> int:
        return len(names(options, split))

    def seeds(self, options: Options, split: str | None, count: int | None) -> NDArray[np.uint64]:
        found = self.num_tasks(options, split)
        return np.arange(found if count is None else min(count, found), dtype=np.uint64)

    def summary(self, options: Options) -> str:
        source = f", {options.data}" if (options.data or "").startswith(MADE) else ""
        return f"alfworld, {options.task_types}{source}"

    def data(self, options: Options, path: Path | None) -> Iterator[str]:
        if path is None and (options.data or "").startswith(MADE):
            raise ValueError(f"env.data = {options.data!r}: these games are made as they are played")
        return check_folder(path or folder_of(options.data))


def names(options: Options, split: str | None) -> tuple[str, ...]:
    """Of the games of a split, in the order of its seeds."""
    return listed(options.data, split, options.panels, options.task_types)


ENTRY = Alfworld()
