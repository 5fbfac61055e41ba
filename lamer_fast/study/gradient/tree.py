"""Every trial that can be played on some boards, as one table.

Axis letters: X rows of the policy's table, A actions; others as in `table.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lamer_fast.rollout.trial_batch import Phase
from lamer_fast.study.gradient.boards import BoardGraph
from lamer_fast.study.gradient.minds import NOTHING, PLAY_TOKENS, Memory, Mind, note_tokens
from lamer_fast.study.gradient.table import Table

MAX_TRIALS = 2_000_000
Seen = tuple[str, Memory]


class Turn(NamedTuple):
    row: int
    action: int
    reward: float
    episode: int
    turn: int
    phase: int
    anchor: int
    success: bool
    done: bool
    tokens: int


@dataclass(frozen=True)
class Tree(Table):
    """With what the policy's table has to say."""

    seen: tuple[Seen, ...]  # [X] what each row of it stands for
    allowed: NDArray[np.bool_]  # [X, A] actions that a row has
    reflects: NDArray[np.bool_]  # [X] rows that write a note


def every_trial(boards: Sequence[BoardGraph], mind: Mind, episodes: int, max_turns: int) -> Tree:
    """Raises ValueError if there are more than MAX_TRIALS."""
    maker = _Maker(mind, episodes, max_turns)
    for board in boards:
        for path in maker.trials(board, 0, NOTHING):
            maker.paths.append(path)
            if len(maker.paths) > MAX_TRIALS:
                raise ValueError(f"more than {MAX_TRIALS} trials can be played: fewer boards, or turns")
        maker.ends.append(len(maker.paths))
    return maker.tree(boards)


class _Maker:
    def __init__(self, mind: Mind, episodes: int, max_turns: int) -> None:
        self.mind, self.episodes, self.max_turns = mind, episodes, max_turns
        self.rows: dict[tuple[Seen, bool], int] = {}  # what is seen, and whether a note is asked for
        self.widths: list[int] = []
        self.paths: list[tuple[Turn, ...]] = []
        self.ends: list[int] = []

    def row(self, seen: Seen, reflects: bool, width: int) -> int:
        key = seen, reflects
        if key not in self.rows:
            self.rows[key] = len(self.widths)
            self.widths.append(width)
        return self.rows[key]

    def trials(self, board: BoardGraph, episode: int, memory: Memory) -> Iterator[tuple[Turn, ...]]:
        """From the start of an episode on."""
        for path, state, kept in self.episode(board, 0, 0, episode, memory):
            if path[-1].success or episode + 1 == self.episodes:
                yield path
                continue
            for note, left in self.reflections(board.views[state], kept, episode + 1):
                for rest in self.trials(board, episode + 1, left):
                    yield path + note + rest

    def episode(
        self, board: BoardGraph, state: int, turn: int, episode: int, memory: Memory
    ) -> Iterator[tuple[tuple[Turn, ...], int, Memory]]:
        """From a state on: turns, the last state, and what is remembered then."""
        row = self.row((board.views[state], memory), False, len(board.actions[state]))
        for action, out in enumerate(board.outcomes[state]):
            over = out.done or turn + 1 == self.max_turns
            this = Turn(
                row, action, out.reward, episode, turn, Phase.PLAY, board.anchors[state], out.success, over,
                PLAY_TOKENS,
            )  # fmt: skip
            kept = self.mind.saw(memory, board.views[out.state])
            if over:
                yield (this,), out.state, kept
                continue
            for rest, last, remembered in self.episode(board, out.state, turn + 1, episode, kept):
                yield (this, *rest), last, remembered

    def reflections(
        self, view: str, memory: Memory, episode: int
    ) -> Iterator[tuple[tuple[Turn, ...], Memory]]:
        written = self.mind.notes(memory, view)
        if not written:
            yield (), memory
            return
        row = self.row((view, memory), True, len(written))
        for action, left in enumerate(written):
            tokens = note_tokens(left)
            yield (Turn(row, action, 0.0, episode, 0, Phase.REFLECT, 0, False, False, tokens),), left

    def tree(self, boards: Sequence[BoardGraph]) -> Tree:
        kinds = {
            "reward": np.float32, "episode": np.int16, "turn": np.int16, "phase": np.uint8,
            "success": np.bool_, "done": np.bool_,
        }  # fmt: skip
        columns = zip(*(turn for path in self.paths for turn in path), strict=True)
        turns: dict[str, NDArray[Any]] = {
            name: np.array(column, kinds.get(name, np.int64))
            for name, column in zip(Turn._fields, columns, strict=True)
        }
        lengths = np.array([len(path) for path in self.paths])
        won = np.zeros((len(self.paths), self.episodes), bool)
        last = np.cumsum(lengths) - 1
        won[np.arange(len(won)), turns["episode"][last]] = turns["success"][last]
        return Tree(
            turns,
            np.concatenate([[0], np.cumsum(lengths)]),
            np.repeat(np.arange(len(boards)), np.diff([0, *self.ends])),
            np.array([board.seed for board in boards], np.uint64),
            won,
            tuple(seen for seen, _ in self.rows),
            np.arange(max(self.widths)) < np.array(self.widths)[:, None],
            np.array([reflects for _, reflects in self.rows]),
        )
