"""Many live boards of one game, stepped in C++ with the GIL released. `make` is the way in.

The native classes check every argument before a board changes and raise ValueError or TypeError that name the
two values that disagree. What they share is documented at `Batch`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    from lamer_fast import _C as _C  # the games take it from here, with the word of what to do
except ImportError as error:
    raise ImportError(
        "the native module lamer_fast._C is missing: install the package, or run `make`"
    ) from error

if TYPE_CHECKING:
    from lamer_fast._C import _Batch as NativeBatch
else:
    NativeBatch = object  # the native class stands beside Batch in the bases of each game

Style = Literal["compact", "numbered", "peers"]
STYLES = ("compact", "numbered", "peers")
_ARGUMENTS: dict[str, type | tuple[type, ...]] = {
    "num_envs": int,
    "num_threads": (int, type(None)),
    "split": (str, type(None)),
}


class StepOut(NamedTuple):
    """One turn of B boards, up to k actions each."""

    rewards_per_action: NDArray[np.float32]
    """[B, k] float32; 0 where no action was executed."""
    rewards: NDArray[np.float32]
    """[B] float32: their sum, or the last one with `turn_reward="last"`."""
    executed: NDArray[np.int32]
    """[B] int32: actions executed; 0 on a board that was already done."""
    done: NDArray[np.bool_]
    """[B] bool: the episode is over."""
    success: NDArray[np.bool_]
    """[B] bool: solved in this episode."""
    dead: NDArray[np.bool_]
    """[B] bool: lost. Minesweeper: a mine went off. Sokoban, with `track_dead=True`: unsolvable."""


class Batch(NativeBatch):
    """Base class of the batches that `make` returns; do not build it yourself.

    E = `num_envs` boards. `env_idx` is None (all boards) or [B] int64, distinct; boards it does not name are
    untouched. Until its first `reset` a board is done.

    Attributes of the native class: `num_envs`, `num_actions`; `height`, `width` of a board in cells.

    Native methods (stubs in `_C.pyi`), beside those below:
        reset(seeds [B] uint64, env_idx=None): a board is a function of its seed and the configuration alone.
        restart(env_idx=None): the same boards from their start.
        anchors(env_idx=None) -> [B] int64, hash of the visible state; tasks(env_idx=None) -> [B] uint64,
            canonical id of the level over the 8 symmetries of the board.
        legal_actions(env_idx=None) -> [B, num_actions] bool, all False on a done board.
        expert_actions(env_idx=None) -> [B] int32; -1 on a done board and where there is no winning move.
        flags(env_idx=None) -> done, success, dead, each [B] bool.
        parse(replies, max_actions=3, strict=False) -> actions [B, max_actions] int32, lengths [B] int32,
            valid [B] bool; never raises on any text. An unparsable reply is one action -1.
        snapshot(env_idx=None) -> bytes; restore(data, env_idx=None) of as many boards and this configuration.
    """

    name: str  # "sokoban" or "minesweeper"
    style: Style  # of `observe` and `texts` if they name none

    def step(
        self,
        actions: NDArray[np.int32],
        lengths: NDArray[np.int32] | None = None,
        env_idx: NDArray[np.int64] | None = None,
        out: Sequence[NDArray[Any]] | None = None,
    ) -> StepOut:
        """Plays one turn of up to k actions on each board, in order, until the board is done.

        Args:
            actions: [B, k] int32. Sokoban: 0 up, 1 down, 2 left, 3 right, 4 still. Minesweeper: the cell
                row * width + column, from 0. -1: an unparsable action; no change, reward `invalid`.
            lengths: [B] int32 in 0..k, how many of the k count; None: all.
            out: a StepOut, or six arrays like its own, to fill instead of new ones.

        Raises:
            ValueError, TypeError: an action out of range, a wrong shape or dtype. No board has changed.
        """
        return StepOut._make(super().step(actions, lengths, env_idx, out))

    def observe(
        self,
        env_idx: NDArray[np.int64] | None = None,
        style: Style | None = None,
        out: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Texts of the boards in one arena: text b is `arena[offsets[b] : offsets[b + 1]]`, UTF-8.

        Args:
            style: "compact" (one ASCII character a cell), "numbered" (ASCII, row numbers) or "peers" (as the
                official LaMer prompts; Sokoban's box on a target is U+221A, three bytes).
            out: (arena, offsets) to fill instead of new arrays; the arena may be larger than needed.

        Returns:
            arena [bytes] uint8, offsets [B + 1] int64. New arrays belong to the caller; those given as `out`
            hold these texts until the caller overwrites them.
        """
        return super().observe(env_idx, style or self.style, out)

    def texts(self, env_idx: NDArray[np.int64] | None = None, style: Style | None = None) -> list[str]:
        """The same as [B] Python strings."""
        return super().texts(env_idx, style or self.style)


def make(
    name: str,
    num_envs: int,
    *,
    num_threads: int | None = None,
    split: str | None = None,
    style: Style = "compact",
    **config: Any,
) -> Batch:
    """E boards of a game, not yet reset.

    Args:
        name: "sokoban" or "minesweeper".
        num_envs: E, at least 1.
        num_threads: the most that are used; small batches run on the caller's. None: one per processor.
        split: None, or only boards whose task lies in "train", "valid" or "test" (80/10/10 by task id): no
            seed of one split gives a board of another.
        style: default of `observe` and `texts`.
        **config: of both games: rewards ("lamer", "sparse" or a dict of numbers), turn_reward ("sum" or
            "last"), stop_at_done (True), autoreset ("none", "same", "next").
            Sokoban: height, width (6, up to 10, with the border wall), num_boxes (2, up to 4), min_moves (5)
            and max_moves (21): window of the optimal solution's length; track_dead, end_on_dead (False);
            levels: texts in XSB or Boxoban format to play instead of generated boards, seed s is level s
            modulo their number. Size, boxes and window are then those of the levels, and cannot be given.
            Minesweeper: height, width (6, up to 16), num_mines (3), first_click ("env" or "agent"), no_guess
            (False), max_tries; neighbours ("all" or "hidden", up to 8x8), held_out_rules (False).

    Raises:
        ValueError, TypeError: an unknown word, or values that do not go together; names both.
    """
    game = native_game(name)
    given = {"num_envs": num_envs, "num_threads": num_threads, "split": split, **config}
    _check_options(name, given, _ARGUMENTS | dict(game.batch_options))
    if style not in STYLES:
        raise ValueError(f"style must be one of {STYLES}, got {style!r}")
    if num_threads is None:
        num_threads = _num_processors()
    kind: Any = game.batch_class(config)
    batch: Batch = kind(num_envs, num_threads=num_threads, split=split, **config)
    batch.style = style
    return batch


def native_game(name: str) -> Any:
    """The `native.game.NativeGame` of that name."""
    from lamer_fast.envs.registry import NATIVE, entry

    if name not in NATIVE:
        raise ValueError(f"name must be one of {tuple(NATIVE)}, got {name!r}")
    return entry(name)


def _check_options(name: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for option, value in given.items():
        wanted = options.get(option)
        if wanted is None:
            known = ", ".join(o for o in options if o not in _ARGUMENTS)
            raise TypeError(f"{name} has no option {option!r}; its options are {known}")
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            names = " or ".join(
                kind.__name__ for kind in (wanted if isinstance(wanted, tuple) else (wanted,))
            )
            raise TypeError(f"{option} must be {names}, got {value!r}")
        if isinstance(value, int) and not -(2**31) <= value < 2**31:
            raise ValueError(f"{option} must fit into 32 bits, got {value}")


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_tasks(name: str, split: str | None = None, **config: Any) -> tuple[int, bool]:
    """(count, exact): how many tasks (boards that no symmetry makes equal) a configuration has in a split.

    Exact where they can be enumerated, else a lower estimate from 200,000 draws.
    """
    count, exact = make(name, 1, num_threads=1, split=split, **config).num_tasks()
    return int(count), bool(exact)


def distinct_seeds(
    name: str, split: str | None, count: int | None = None, **config: Any
) -> NDArray[np.uint64]:
    """The first seeds, counted from 0, whose boards are distinct tasks of the split; the same everywhere.

    Args:
        count: how many, None for one seed of every task there is. Where the split has fewer, all of them.

    Returns:
        [<= count] uint64, for `reset` of a batch of the same configuration and split.

    Raises:
        ValueError: no `count`, and the tasks of this configuration cannot be enumerated.
    """
    batch = make(name, 1, num_threads=1, split=split, **config)
    if count is None:
        count, exact = batch.num_tasks(num_draws=0)
        if not exact:
            raise ValueError(f"count is None, but the tasks of {name} {config} cannot be enumerated")
    return batch.distinct_seeds(count)


def iterate_tasks(name: str, split: str | None = None, **config: Any) -> Iterator[tuple[int, int]]:
    """(seed, task) of each task of the split once, by seeds from 0.

    Ends when all have been seen where their number is known, else never.
    """
    batch = make(name, 1024, num_threads=1, split=split, **config)
    count, exact = batch.num_tasks(num_draws=0)
    if exact and count == 0:
        return
    seen: set[int] = set()
    for first in range(0, 2**63, batch.num_envs):
        seeds = np.arange(first, first + batch.num_envs, dtype=np.uint64)
        batch.reset(seeds)
        for seed, task in zip(seeds.tolist(), batch.tasks().tolist(), strict=True):
            if task not in seen:
                seen.add(task)
                yield seed, task
        if exact and len(seen) >= count:
            return
