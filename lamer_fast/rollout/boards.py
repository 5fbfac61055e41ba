"""Which boards an iteration plays: N groups of G trials, a function of the seed and the iteration alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import Config
from lamer_fast.rng import board_seeds


@dataclass(frozen=True)
class Boards:
    """Trial m plays the board of `seeds[m]` and belongs to group `group[m]`."""

    seeds: NDArray[np.uint64]  # [M]
    group: NDArray[np.int32]  # [M] 0..N-1
    trial: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """[M] numbers of these trials among those of all ranks, ascending; by default 0..M-1."""

    def __post_init__(self) -> None:
        if len(self.trial) != len(self.seeds):
            object.__setattr__(self, "trial", np.arange(len(self.seeds)))

    def __len__(self) -> int:
        return len(self.seeds)

    def share(self, rank: int, world: int) -> "Boards":
        """What one of so many ranks plays: groups rank, rank + world, ..."""
        return self._where(self.group % world == rank)

    def of(self, groups: Sequence[int]) -> "Boards":
        """Those of some groups."""
        return self._where(np.isin(self.group, groups))

    def _where(self, mine: NDArray[np.bool_]) -> "Boards":
        return Boards(self.seeds[mine], self.group[mine], self.trial[mine])


def draw_boards(config: Config, iteration: int) -> Boards:
    """N groups of G trials on one board each; trials of a group are neighbours."""
    group = np.repeat(np.arange(config.rollout.groups, dtype=np.int32), config.rollout.trials_per_group)
    return Boards(board_seeds(config.train.seed, iteration, group), group)


def draw_again(boards: Boards, groups: Sequence[int], config: Config, iteration: int, draw: int) -> Boards:
    """`boards` with others for some groups; `draw` counts from 1."""
    others = board_seeds(config.train.seed, iteration, boards.group, draw)
    return replace(boards, seeds=np.where(np.isin(boards.group, groups), others, boards.seeds))
