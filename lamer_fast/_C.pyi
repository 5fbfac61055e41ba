"""The native module: batches of boards. `lamer_fast.envs.make` is the face to use.

E = num_envs boards, B of them in a call: `env_idx` is None (all) or [B] int64, C-contiguous, distinct. Arrays
are never converted: a wrong dtype is a TypeError, a wrong shape, length or value a ValueError, both name what
was given and what was expected, and no board has changed. The GIL is released while boards are at work; calls
of several Python threads to one batch queue up.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

_Idx = NDArray[np.int64] | None
_Style = Literal["compact", "numbered", "peers"]

class TooLarge(ValueError):
    """An exact search would take too long."""

class _Batch:
    bytes_per_board: ClassVar[int]
    """Memory of one live board, bytes, tables of Sokoban levels apart."""
    @property
    def num_envs(self) -> int: ...
    @property
    def num_actions(self) -> int:
        """Valid actions are 0 .. num_actions - 1, and -1 for an unparsable one."""
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def fingerprint(self) -> int:
        """Hash of game and configuration; a snapshot is restored only where it is the same."""
    def reset(self, seeds: NDArray[np.uint64], env_idx: _Idx = None) -> None:
        """seeds: [B] uint64. If one board cannot be generated (ValueError), none changes."""
    def restart(self, env_idx: _Idx = None) -> None:
        """Back to the start of the boards; one that was never reset stays done."""
    def step(
        self,
        actions: NDArray[np.int32],
        lengths: NDArray[np.int32] | None = None,
        env_idx: _Idx = None,
        out: Sequence[NDArray[Any]] | None = None,
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float32],
        NDArray[np.int32],
        NDArray[np.bool_],
        NDArray[np.bool_],
        NDArray[np.bool_],
    ]:
        """actions [B, k], lengths [B] in 0..k.

        Returns:
            rewards_per_action [B, k]; rewards, executed, done, success, dead, each [B].
        """
    def observe(
        self,
        env_idx: _Idx = None,
        style: _Style = "compact",
        out: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(arena, offsets [B + 1]): text b is arena[offsets[b] : offsets[b + 1]], UTF-8."""
    def texts(self, env_idx: _Idx = None, style: _Style = "compact") -> list[str]: ...
    def parse(
        self, replies: list[str], max_actions: int = 3, strict: bool = False
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        """actions [B, max_actions] (-1 beyond the length), lengths [B] >= 1, valid [B]. No text raises."""
    def anchors(self, env_idx: _Idx = None) -> NDArray[np.int64]:
        """[B]: hash of the full visible state."""
    def tasks(self, env_idx: _Idx = None) -> NDArray[np.uint64]:
        """[B]: canonical id of the start over the 8 symmetries; 0 before the first reset."""
    def expert_actions(self, env_idx: _Idx = None) -> NDArray[np.int32]:
        """[B]: Sokoban the first move of a shortest solution, Minesweeper a provably safe cell or one of
        least risk; -1 on a done board and where there is no solution."""
    def legal_actions(self, env_idx: _Idx = None) -> NDArray[np.bool_]:
        """[B, num_actions], all False on a done board."""
    def flags(self, env_idx: _Idx = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """done, success, dead, each [B], as they stand."""
    def snapshot(self, env_idx: _Idx = None) -> bytes:
        """A versioned header with a checksum, then one record of fixed size a board."""
    def restore(self, data: bytes, env_idx: _Idx = None) -> None:
        """Board i of the snapshot becomes board env_idx[i]; ValueError on bytes of another configuration."""
    def num_tasks(self, num_draws: int = 200_000) -> tuple[int, bool]:
        """(count, exact) of the split; not exact: a lower estimate from the boards of so many seeds."""
    def distinct_seeds(self, count: int, patience: int = 100_000) -> NDArray[np.uint64]:
        """The first seeds, from 0, of distinct tasks; fewer than `count` where there are no more, or where
        `patience` seeds in a row brought no new one."""

class SokobanBatch(_Batch):
    """Rules and shaped rewards of gym-sokoban 0.0.6. Actions: 0 up, 1 down, 2 left, 3 right, 4 still."""

    def __init__(
        self,
        num_envs: int,
        *,
        num_threads: int = 1,
        split: Literal["train", "valid", "test"] | None = None,
        turn_reward: Literal["sum", "last"] = "sum",
        stop_at_done: bool = True,
        autoreset: Literal["none", "same", "next"] = "none",
        height: int = 6,
        width: int = 6,
        num_boxes: int = 2,
        min_moves: int = 5,
        max_moves: int = 21,
        controls: Literal["plain", "permuted", "broken"] = "plain",
        held_out_rules: bool = False,
        sticky: float = 0.0,
        show_moves: bool = False,
        track_dead: bool = False,
        end_on_dead: bool = False,
        rewards: str | dict[str, float] = "lamer",
        levels: list[str] | None = None,
    ) -> None:
        """rewards: "lamer", "sparse" or some of step, on, off, win, dead, invalid; those left out are 0."""
    @property
    def controls(self) -> Literal["plain", "permuted", "broken"]: ...
    @property
    def sticky(self) -> float: ...
    @property
    def num_levels(self) -> int:
        """Of `levels`; 0 when boards are generated."""
    def rules(self, env_idx: _Idx = None) -> NDArray[np.int32]:
        """[B]: which of the rows of `sokoban_rules` the controls of a board are."""
    def state_hashes(self, env_idx: _Idx = None) -> NDArray[np.int64]:
        """[B, 7]: hashes of the board as it stands, of what each move (not word) would lead to, and of what
        the next turn may lead to by a repeat, 0 where it cannot."""
    def explore(
        self,
        repeats: NDArray[np.uint8],
        turns: NDArray[np.int32],
        episodes: NDArray[np.int32],
        *,
        max_turns: int,
        env_idx: _Idx = None,
    ) -> NDArray[np.float64]:
        """[B, 5]: the chance of a success if this word comes next and all later ones are chosen best.

        repeats: [B, 120], of each rule the repeated moves that what was seen needs under it: each makes it
        less likely by `sticky`; 255: it is impossible. turns: [B] left of this episode, 1 to max_turns;
        episodes: [B] left with this one, from 1. One word a turn.
        """
    def distances(self, env_idx: _Idx = None) -> NDArray[np.int32]:
        """[B]: moves of a shortest solution from here; -1 unsolvable, -2 not known within the bound."""

def sokoban_rules() -> NDArray[np.int32]:
    """[120, 5]: the move that each word makes, by rule; the first 24 leave `still` alone, 0 is plain."""

class MinesweeperBatch(_Batch):
    """Rules of LaMer's environment (left click only), up to 8x8. Actions: row * width + column, from 0."""

    def __init__(
        self,
        num_envs: int,
        *,
        num_threads: int = 1,
        split: Literal["train", "valid", "test"] | None = None,
        turn_reward: Literal["sum", "last"] = "sum",
        stop_at_done: bool = True,
        autoreset: Literal["none", "same", "next"] = "none",
        height: int = 6,
        width: int = 6,
        num_mines: int = 3,
        first_click: Literal["env", "agent"] = "env",
        no_guess: bool = False,
        max_tries: int = 100_000,
        rewards: str | dict[str, float] = "lamer",
    ) -> None:
        """rewards: "lamer", "sparse" or some of win, open, cascade, mine, invalid; those left out are 0."""
    @property
    def num_mines(self) -> int: ...
    def mine_probabilities(self, env_idx: _Idx = None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(probabilities [B, cells], 0 at open cells, 1 at an opened mine; exact [B])."""
    def lay(self, mines: NDArray[np.bool_], first: NDArray[np.int32], env_idx: _Idx = None) -> None:
        """Puts given boards: mines [B, cells], the first cell to open [B]."""

class MinesweeperLargeBatch(MinesweeperBatch):
    """The same up to 16x16. At run time no subclass of MinesweeperBatch."""

class MinesweeperHiddenBatch(_Batch):
    """Minesweeper whose numbers count some of the lines through a cell, up to 8x8. Every cell opens alone."""

    def __init__(
        self,
        num_envs: int,
        *,
        num_threads: int = 1,
        split: Literal["train", "valid", "test"] | None = None,
        turn_reward: Literal["sum", "last"] = "sum",
        stop_at_done: bool = True,
        autoreset: Literal["none", "same", "next"] = "none",
        height: int = 6,
        width: int = 6,
        num_mines: int = 3,
        first_click: Literal["env"] = "env",
        no_guess: bool = False,
        max_tries: int = 100_000,
        held_out_rules: bool = False,
        rewards: str | dict[str, float] = "lamer",
    ) -> None:
        """rewards: as of MinesweeperBatch; nothing cascades."""
    @property
    def num_mines(self) -> int: ...
    def rules(self, env_idx: _Idx = None) -> NDArray[np.int32]:
        """[B], 0 to 14: the lines that count are the bits of this plus 1: row, column, diagonal (down and to
        the right), antidiagonal."""
    def beliefs(
        self, seen: NDArray[np.bool_], hit: NDArray[np.bool_], env_idx: _Idx = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(chance of a mine [B, cells], chance of each line to count [B, 4]) for a player who has seen the
        numbers of the cells `seen` [B, cells] and hit the mines `hit`; the first cell is always seen.
        ValueError with more than 8,000 layouts."""
    def explore(
        self,
        seen: NDArray[np.bool_],
        hit: NDArray[np.bool_],
        episodes: NDArray[np.int32],
        env_idx: _Idx = None,
    ) -> NDArray[np.float64]:
        """[B, cells]: the chance to open all free cells within so many episodes if this cell comes next and
        all later ones are chosen best. A cell seen before is free."""

class AlfworldGame:
    """A game of ALFWorld, from the tables that `envs.adapters.alfworld.compiler` makes."""

    def __init__(self, data: bytes) -> None:
        """ValueError where the bytes are no tables."""
    @property
    def digest(self) -> int:
        """Of the game that they were made from."""
    @property
    def intro(self) -> str:
        """What is said at the start."""
    @property
    def replies(self) -> tuple[str, ...]:
        """Every command of the game in its action tags, in the order of the commands."""

class AlfworldBatch:
    """Boards that each play a game of their own. A board is done until it has one."""

    def __init__(self, num_envs: int, *, num_threads: int = 1) -> None: ...
    @property
    def num_envs(self) -> int: ...
    def reset(self, games: list[AlfworldGame], env_idx: _Idx = None) -> None:
        """games: [B]."""
    def restart(self, env_idx: _Idx = None) -> None: ...
    def step(
        self, commands: list[str | None], env_idx: _Idx = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """done, success, won (by this command), unclear (it may mean two things: nothing was done), [B] each.

        None plays nothing; a command that is not possible leads to "Nothing happens."
        """
    def texts(self, env_idx: _Idx = None) -> list[str]:
        """[B]: what was said last."""
    def replies(self, env_idx: _Idx = None) -> list[list[str]]:
        """[B] lists of what can be done, of the game's `replies` and in their order; [] on a done board."""
    def anchors(self, env_idx: _Idx = None) -> NDArray[np.int64]:
        """[B]: hash of the game and its facts as they stand."""
    def flags(self, env_idx: _Idx = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """done, success, each [B]."""
    def snapshot(self, env_idx: _Idx = None) -> bytes:
        """A header with a checksum, then one record a board, of the size of the largest."""
    def restore(self, data: bytes, games: list[AlfworldGame], env_idx: _Idx = None) -> None:
        """games: [B], those of the snapshot's boards; ValueError on other bytes, and no board has changed."""

def set_simd_level(name: str) -> None:
    """ "scalar", "neon", "avx2", "avx512" or "best"; for tests and benchmarks, while no batch is at work."""

def simd_level() -> str: ...
def split_of(task: int) -> str:
    """ "train", "valid" or "test"."""
