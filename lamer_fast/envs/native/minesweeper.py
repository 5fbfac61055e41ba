"""Minesweeper: options, boards as text, what a model reads first, words and expert of a warm start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.batch import _C, Batch
from lamer_fast.envs.expert import Expert
from lamer_fast.envs.guide import Guide
from lamer_fast.envs.native import neighbours
from lamer_fast.envs.native.game import COMMON, REWARD, NativeGame, RewardSets
from lamer_fast.envs.native.text_env import NativeTextEnv
from lamer_fast.envs.options import EnvOptions
from lamer_fast.fields import Range

SMALL = 8  # cells of a side, up to which boards have a class of their own
MAX_ROW_CELLS = 3  # of a row that is one word
KNOWN_MINE, KNOWN_SAFE = 2.0, -1.0  # beyond any probability


@dataclass(frozen=True)
class MinesweeperOptions(EnvOptions):
    height: Annotated[int, Range(1, 16)] = 6
    """Rows of the board."""
    width: Annotated[int, Range(1, 16)] = 6
    """Columns of the board."""
    num_mines: Annotated[int, Range(1, 255)] = 3
    """Mines on the board."""
    first_click: Literal["env", "agent"] = "env"
    """Player of the first cell, which is never a mine: the environment at the start, or the agent."""
    no_guess: bool = False
    """Play only boards that can be won by reasoning alone; needs first_click env."""
    max_tries: Annotated[int, Range(1, 2_147_483_647)] = 100_000
    """Number of boards to draw in a row before the run gives up because none fits."""
    neighbours: Literal["all", "hidden"] = "all"
    """Cells that a number counts: all 8 around it, or those on some of 4 lines, which belong to the task."""
    held_out_rules: bool = False
    """With hidden neighbours: split the lines, too; train, valid and test have different ones."""
    rewards: Literal["lamer", "sparse"] = "lamer"
    """Reward set: the official shaped rewards, or 10 for success and 0 otherwise."""
    reward_win: Annotated[float, REWARD] | None = None
    """Total reward of the cell that wins; like all reward_*, by default that of the set."""
    reward_open: Annotated[float, REWARD] | None = None
    """Reward of a cell that opens by itself."""
    reward_cascade: Annotated[float, REWARD] | None = None
    """Reward of a cell that opens others too."""
    reward_mine: Annotated[float, REWARD] | None = None
    """Reward of a mine."""
    reward_invalid: Annotated[float, REWARD] | None = None
    """Reward of a reply that cannot be read, of an open cell, and of a cell off the board."""
    style: Literal["numbered", "compact", "peers"] = "numbered"
    """Text style of a board."""

    def validate(self) -> None:
        if self.no_guess and self.first_click == "agent":
            raise ValueError("env.no_guess = True contradicts env.first_click = 'agent'")
        if self.held_out_rules and self.neighbours == "all":
            raise ValueError("env.held_out_rules = True contradicts env.neighbours = 'all'")
        if self.neighbours == "hidden":
            self._validate_hidden()
        most = self.height * self.width - (2 if self.first_click == "env" else 1)
        if self.num_mines > most:
            raise ValueError(
                f"env.num_mines = {self.num_mines} contradicts env.height = {self.height} and env.width = "
                f"{self.width}: there is room for {most}"
            )

    def _validate_hidden(self) -> None:
        for name, needed in (("first_click", "env"), ("no_guess", False)):
            if getattr(self, name) != needed:
                raise ValueError(
                    f"env.{name} = {getattr(self, name)!r} contradicts env.neighbours = 'hidden'"
                )
        if max(self.height, self.width) > SMALL:
            raise ValueError(
                f"env.height = {self.height} and env.width = {self.width}, but env.neighbours = 'hidden' "
                f"has boards up to {SMALL}x{SMALL}"
            )


class _AllNeighbours(Batch):
    name = "minesweeper"

    def __init__(
        self, num_envs: int, *, neighbours: str = "all", held_out_rules: bool = False, **config: Any
    ) -> None:
        if neighbours != "all":
            raise ValueError(f"neighbours must be 'all' or 'hidden', got {neighbours!r}")
        if held_out_rules:
            raise ValueError("held_out_rules is True, but neighbours is 'all'")
        super().__init__(num_envs, **config)  # type: ignore[call-arg]


class MinesweeperBatch(_AllNeighbours, _C.MinesweeperBatch):
    """Boards up to 8x8 cells."""


class MinesweeperLargeBatch(_AllNeighbours, _C.MinesweeperLargeBatch):
    """Boards above 8x8 cells."""


class MinesweeperHiddenBatch(Batch, _C.MinesweeperHiddenBatch):
    """Of hidden neighbours, up to 8x8."""

    name = "minesweeper"

    def __init__(self, num_envs: int, *, neighbours: str = "hidden", **config: Any) -> None:
        super().__init__(num_envs, **config)


class MinesweeperText(NativeTextEnv):
    def task_prompt(self) -> str:
        batch: Any = self.batch
        hidden = isinstance(batch, MinesweeperHiddenBatch)
        return task_prompt(self.prompt, batch.height, batch.width, batch.num_mines, hidden=hidden)

    def reply(self, actions: Sequence[int]) -> str:
        row, column = divmod(actions[0], self.batch.width)
        return f"<action>({row + 1}, {column + 1})</action>"


_NEIGHBOURS = """- Four lines go through a cell: its row, its column and its two diagonals. A number counts \
the two cells beside it on some of these lines, at least one, and not on the others. Which lines count is \
the same everywhere on the board and in every attempt at this task, and you are not told: you have to find \
it out.
- Every cell opens alone."""


def task_prompt(prompt: str, height: int, width: int, num_mines: int, *, hidden: bool = False) -> str:
    """Args: `prompt` "full" or "compact"; size of the board in cells; `hidden` neighbours."""
    mines = "1 mine" if num_mines == 1 else f"{num_mines} mines"
    if prompt == "compact":
        lines = ", some lines" if hidden else ""
        return f"Minesweeper {height}x{width}, {mines}{lines}.\n<action>(row, column)</action>"
    example = f"<action>({min(2, height)}, {min(3, width)})</action>"
    around = "among its neighbours, see below" if hidden else "next to it, diagonals included"
    none = "among its neighbours" if hidden else "next to it"
    alone = "- You open one closed cell each turn."
    if not hidden:
        alone += " Opening a cell without a neighbouring mine opens its neighbours too."
    lines = f"\n{_NEIGHBOURS}" if hidden else ""
    return f"""You play Minesweeper on a board of {height} rows and {width} columns that hides {mines}. \
You see one symbol a cell:
? closed cell
. open cell without a mine {none}
1 to 8 open cell with that many mines {around}
* a mine that went off

Goal: open every cell that has no mine. Opening a mine loses the game at once.

Rules:
{alone}{lines}
- Opening a cell that is already open, or that is not on the board, changes nothing and costs a little.
- The numbers tell which closed cells are safe: prefer a cell that they prove to be free of a mine.

Rows are counted from 1 at the top, columns from 1 at the left.
Reply with the cell to open inside action tags, row first, like this: {example}"""


class MinesweeperExpert(Expert):
    """Opens a cell of the lowest exact mine probability, any of the equal ones.

    With a memory it opens what earlier episodes proved free first and what they proved mined never.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        shape = (num_trials, env.batch.num_actions)
        self.actions = [env.reply([action]) for action in range(env.batch.num_actions)]
        self.mined = np.zeros(shape, bool)
        self.free = np.zeros(shape, bool)

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        batch = self.env.batch
        closed = batch.legal_actions(trials)
        self.free[trials] |= ~closed
        memory = self.remembers[trials, None]
        danger, _ = batch.mine_probabilities(trials)
        danger = np.where(memory & self.free[trials], KNOWN_SAFE, danger)
        danger = np.where(memory & self.mined[trials], KNOWN_MINE, danger)
        danger = np.where(closed, danger, np.inf)
        best = danger <= danger.min(axis=1, keepdims=True) + 1e-9
        loose = closed & ~(memory & self.mined[trials])
        noise = self.noise[trials, None]
        chances = (1 - noise) * _uniform(best) + noise * _uniform(loose)
        actions = (chances.cumsum(axis=1) <= self.rng.random((len(trials), 1))).sum(axis=1)
        actions = np.minimum(actions, chances.shape[1] - 1 - chances[:, ::-1].astype(bool).argmax(axis=1))
        return [self.actions[action] for action in actions.tolist()], chances

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        width = self.env.batch.width
        notes = []
        for trial, board in zip(trials.tolist(), self.env.batch.texts(trials, style="compact"), strict=True):
            hit = board.replace("\n", "").find("*")
            if hit >= 0:
                self.mined[trial, hit] = True
                self.free[trial, hit] = False
            cells = [divmod(cell, width) for cell in np.flatnonzero(self.mined[trial]).tolist()]
            notes.append(f"mine {' '.join(f'({r + 1}, {c + 1})' for r, c in cells)}" if cells else "no mine")
        return notes


def _uniform(choices: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(choices / choices.sum(axis=1, keepdims=True))


class Minesweeper(NativeGame):
    """Open every cell without a mine."""

    name = "minesweeper"
    options = MinesweeperOptions
    batch_options = COMMON | {
        "num_mines": int, "first_click": str, "no_guess": bool, "max_tries": int, "neighbours": str,
        "held_out_rules": bool,
    }  # fmt: skip
    text_env = MinesweeperText
    moves_per_turn = 1, 1
    reward_sets: ClassVar[RewardSets] = {
        "lamer": {"win": 10.0, "open": 0.5, "cascade": 2.0, "mine": -0.1, "invalid": -1.0},
        "sparse": {"win": 10.0},
    }

    def batch_class(self, config: Mapping[str, Any]) -> type[Batch]:
        if config.get("neighbours", "all") == "hidden":
            return MinesweeperHiddenBatch
        large = max(config.get("height", 6), config.get("width", 6)) > SMALL
        return MinesweeperLargeBatch if large else MinesweeperBatch

    def board_settings(self, options: MinesweeperOptions) -> dict[str, Any]:
        same = ["height", "width", "num_mines", "first_click", "no_guess", "max_tries"]
        same += ["neighbours", "held_out_rules"] if options.neighbours == "hidden" else []
        return {name: getattr(options, name) for name in same}

    def summary(self, options: MinesweeperOptions) -> str:
        mines = "1 mine" if options.num_mines == 1 else f"{options.num_mines} mines"
        hidden = ", hidden neighbours" if options.neighbours == "hidden" else ""
        return f"minesweeper {options.height}x{options.width}, {mines}{hidden}"

    def words(self, options: MinesweeperOptions) -> list[str]:
        size = product(range(1, options.height + 1), range(1, options.width + 1))
        cells = [f"({row}, {column})" for row, column in size]
        words = cells + [f"<action>{cell}</action>" for cell in cells]
        words += ["mine ", "no mine", "Minesweeper ", f"{options.height}x{options.width}"]
        words += [", ", " mines.\n", "(row, column)"]
        if options.neighbours == "hidden":
            words += [
                " mines, some lines.\n",
                *(neighbours.fact(line, c) for line in neighbours.LINES for c in (True, False)),
            ]
        return [*words, *_rows(options)]

    def expert(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> Expert:
        if isinstance(env.batch, MinesweeperHiddenBatch):
            return neighbours.NeighboursExpert(env, noise, memory, num_trials, rng)
        return MinesweeperExpert(env, noise, memory, num_trials, rng)

    def has_bound(self, options: MinesweeperOptions) -> bool:
        small = neighbours.is_small(options.height * options.width, options.num_mines)
        return options.neighbours == "hidden" and small

    def best_chances(self, batch: Any, max_turns: int, episodes: int) -> NDArray[np.float64]:
        return neighbours.bound(batch, episodes)

    def guide(self, env: Any, max_turns: int, episodes: int) -> Guide | None:
        batch = getattr(env, "batch", None)  # a world of one's own may take its place
        if not isinstance(batch, MinesweeperHiddenBatch):
            return None
        small = neighbours.is_small(batch.num_actions, batch.num_mines)
        return neighbours.NeighboursGuide(env, episodes) if small else None

    def explorer(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator,
        *, max_turns: int, episodes: int,
    ) -> Expert:  # fmt: skip
        if not isinstance(env.batch, MinesweeperHiddenBatch):
            return super().explorer(
                env, noise, memory, num_trials, rng, max_turns=max_turns, episodes=episodes
            )
        return neighbours.NeighboursExplorer(env, noise, memory, num_trials, rng, episodes=episodes)


def _rows(options: MinesweeperOptions) -> list[str]:
    """A token per row and content of it: it says where its cells are, and a board costs `height` tokens.

    Left out, and so spelled in bytes: what no game shows (a blank beside a closed cell, two mines gone off).
    Boards wider than MAX_ROW_CELLS, or of another style than "numbered", get a token per cell.
    """
    symbols = "?." + "12345678"[: options.num_mines] + "*"
    if options.style != "numbered" or options.width > MAX_ROW_CELLS:
        return [symbol + "\n" for symbol in symbols]
    rows, hidden = [], options.neighbours == "hidden"
    for cells in product(symbols, repeat=options.width):
        pairs = {a + b for a, b in pairwise(cells)}
        if cells.count("*") <= 1 and (hidden or not pairs & {".?", "?.", ".*", "*."}):
            rows.append(" ".join(cells))
    numbered = [f"Row {r}: {row}" for r in range(1, options.height + 1) for row in rows]
    return [row if row.startswith("Row 1:") else "\n" + row for row in numbered]


ENTRY = Minesweeper()
