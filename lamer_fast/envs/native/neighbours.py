"""Minesweeper whose neighbourhood is hidden: what a player knows of a board, a teacher, the bound, hints.

A rule says which of the four lines through a cell count. It belongs to the task, as the mines do. What was
seen in one episode of a trial is known in the next: the numbers of cells, and mines that were hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.expert import Expert
from lamer_fast.envs.guide import Guide

LINES = ("row", "column", "diagonal", "antidiagonal")
NUM_RULES = 15
MAX_HYPOTHESES = 4_000
SURE = 1e-9
KNOWN_MINE, KNOWN_SAFE = 2.0, -1.0  # beyond any probability

Boards = NDArray[np.int64]
CellsOf = NDArray[np.bool_]


def is_small(num_cells: int, num_mines: int) -> bool:
    """Whether the search of a board takes a second at most, by its layouts under all rules."""
    return comb(num_cells, num_mines) * NUM_RULES <= MAX_HYPOTHESES


def bound(batch: Any, episodes: int) -> NDArray[np.float64]:
    """[E, episodes]: the greatest chance to win within 1, 2, ... episodes, over all layouts and rules.

    Boards that look alike at first have one bound; the search is made once for them.
    """
    _, first, own = np.unique(batch.texts(), return_index=True, return_inverse=True)
    boards = first.astype(np.int64)
    nothing = np.zeros((len(boards), batch.num_actions), bool)
    left = [np.full(len(boards), k, np.int32) for k in range(1, episodes + 1)]
    found = [batch.explore(nothing, nothing, k, boards).max(axis=1) for k in left]
    return np.stack(found, axis=1)[own]


class Memory:
    """What was seen of each of some boards of a batch: [boards, cells] bool."""

    def __init__(self, batch: Any, count: int) -> None:
        self.batch = batch
        self.seen: CellsOf = np.zeros((count, batch.num_actions), bool)
        self.hit: CellsOf = np.zeros((count, batch.num_actions), bool)

    def look(self, boards: Boards) -> None:
        """At the boards as they stand: open cells, and the mine of a board that is lost."""
        cells, ends = self.batch.observe(boards, "compact")
        texts = [cells[ends[i] : ends[i + 1]] for i in range(len(boards))]
        shape = len(boards), self.batch.num_actions
        shown = np.array([text[text != ord("\n")] for text in texts], np.uint8).reshape(shape)
        self.hit[boards] |= shown == ord("*")
        self.seen[boards] |= (shown != ord("?")) & (shown != ord("*"))

    def forget(self, boards: Boards) -> None:
        self.seen[boards] = self.hit[boards] = False


class NeighboursExpert(Expert):
    """Opens a cell of the lowest chance of a mine over all layouts and rules that agree with what it knows.

    With a memory it knows what earlier episodes have shown, and opens what they proved free first. It does
    not plan to explore. Its note: the mines that were hit, and what is certain of the lines.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        self.actions = [env.reply([cell]) for cell in range(env.batch.num_actions)]
        self.trial = Memory(env.batch, num_trials)  # of all episodes
        self.episode = Memory(env.batch, num_trials)  # of this one

    def play(self, trials: Boards) -> tuple[list[str], NDArray[np.float64] | None]:
        batch = self.env.batch
        for memory in (self.trial, self.episode):
            memory.look(trials)
        remembers = self.remembers[trials, None]
        seen = np.where(remembers, self.trial.seen[trials], self.episode.seen[trials])
        hit = np.where(remembers, self.trial.hit[trials], self.episode.hit[trials])
        closed = batch.legal_actions(trials)
        best = self.best(trials, seen, hit, closed)
        loose = closed & ~hit
        noise = self.noise[trials, None]
        chances = (1 - noise) * _uniform(best) + noise * _uniform(loose)
        drawn = (chances.cumsum(axis=1) <= self.rng.random((len(trials), 1))).sum(axis=1)
        last = chances.shape[1] - 1 - chances[:, ::-1].astype(bool).argmax(axis=1)
        return [self.actions[cell] for cell in np.minimum(drawn, last).tolist()], chances

    def best(self, trials: Boards, seen: CellsOf, hit: CellsOf, closed: CellsOf) -> CellsOf:
        danger, _ = self.env.batch.beliefs(seen, hit, trials)
        danger = np.where(seen, KNOWN_SAFE, np.where(hit, KNOWN_MINE, danger))
        danger = np.where(closed, danger, np.inf)
        return np.asarray(danger <= danger.min(axis=1, keepdims=True) + SURE)

    def reflect(self, trials: Boards) -> list[str]:
        for memory in (self.trial, self.episode):
            memory.look(trials)
        _, lines = self.env.batch.beliefs(self.trial.seen[trials], self.trial.hit[trials], trials)
        self.episode.forget(trials)
        return [self._note(self.trial.hit[t], of) for t, of in zip(trials.tolist(), lines, strict=True)]

    def _note(self, hit: NDArray[np.bool_], lines: NDArray[np.float64]) -> str:
        cells = [divmod(cell, self.env.batch.width) for cell in np.flatnonzero(hit).tolist()]
        mines = [f"mine {' '.join(f'({r + 1}, {c + 1})' for r, c in cells)}"] if cells else []
        return ", ".join(mines + facts(lines)) or "no mine"


def facts(lines: NDArray[np.float64]) -> list[str]:
    """What is certain, from the chance of each line to count: `row counts`, `column not`."""
    sure = {
        name: chance > 0.5
        for name, chance in zip(LINES, lines, strict=True)
        if min(chance, 1 - chance) < SURE
    }
    return [fact(name, counts) for name, counts in sure.items()]


def fact(line: str, counts: bool) -> str:
    return f"{line} {'counts' if counts else 'not'}"


class NeighboursExplorer(NeighboursExpert):
    """Opens a cell of the greatest chance to win within the trial. Without a memory: within the episode."""

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator,
        *, episodes: int,
    ) -> None:  # fmt: skip
        super().__init__(env, noise, memory, num_trials, rng)
        self.left = np.full(num_trials, episodes, np.int32)

    def best(self, trials: Boards, seen: CellsOf, hit: CellsOf, closed: CellsOf) -> CellsOf:
        episodes = np.where(self.remembers[trials], self.left[trials], 1).astype(np.int32)
        values = self.env.batch.explore(seen, hit, episodes, trials)
        again = closed & seen  # opened before, in another episode: first of all
        values = np.where(again.any(axis=1, keepdims=True), again, np.where(closed & ~hit, values, -1.0))
        return np.asarray(values >= values.max(axis=1, keepdims=True) - SURE)

    def reflect(self, trials: Boards) -> list[str]:
        self.left[trials] = np.maximum(self.left[trials] - 1, 1)
        return super().reflect(trials)


class NeighboursGuide(Guide):
    """Gives hints to a player of board 0, from what this player has seen in the trial."""

    def __init__(self, env: Any, episodes: int) -> None:
        self.env, self.episodes = env, episodes
        self.known, self.board = Memory(env.batch, 1), np.zeros(1, np.int64)

    def look(self) -> None:
        self.known.look(self.board)

    def learn(self, reply: str) -> None:
        self.known.look(self.board)

    def hint(self, turn: int, episode: int) -> tuple[str, float]:
        self.look()
        left = np.array([self.episodes - episode], np.int32)
        values = self.env.batch.explore(self.known.seen, self.known.hit, left, self.board)[0]
        closed = self.env.batch.legal_actions(self.board)[0]
        again = closed & self.known.seen[0]
        best = int((again if again.any() else np.where(closed, values, -1.0)).argmax())
        return self.env.reply([best]), float(values.max())

    def memory(self) -> tuple[CellsOf, CellsOf]:
        return self.known.seen.copy(), self.known.hit.copy()

    def recall(self, memory: tuple[CellsOf, CellsOf]) -> None:
        self.known.seen, self.known.hit = memory[0].copy(), memory[1].copy()


def _uniform(choices: CellsOf) -> NDArray[np.float64]:
    return np.asarray(choices / choices.sum(axis=1, keepdims=True))
