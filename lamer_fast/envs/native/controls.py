"""Sokoban under controls that must be found out: what a player can know of them, and a teacher.

A rule says which word makes which move. It belongs to the task: every episode of a trial, and every trial
of a group, has the same. A belief is the set of rules that agree with all that was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.batch import _C
from lamer_fast.envs.expert import Expert

MOVES = ("up", "down", "left", "right", "still")
NUM_RULES = {"plain": 1, "permuted": 24, "broken": 120}
RULES = _C.sokoban_rules()  # [120, 5]: the move of each word
NOTHING = "nothing"

Boards = NDArray[np.int64]
Possible = NDArray[np.bool_]


def facts(possible: Possible, num_words: int) -> list[str]:
    """What a player with this belief [120] is sure of: `up: left`, in the order of the words."""
    rules = RULES[possible, :num_words]
    sure = np.flatnonzero((rules == rules[0]).all(axis=0))
    return [fact(word, int(rules[0, word])) for word in sure.tolist()]


def fact(word: int, move: int) -> str:
    return f"{MOVES[word]}: {MOVES[move]}"


def packed(possible: Possible) -> NDArray[np.uint64]:
    """[B, 120] bool -> [B, 2] uint64, bit r of the 128 for rule r: what the native search takes."""
    bits = np.zeros((len(possible), 128), np.uint8)
    bits[:, : possible.shape[1]] = possible
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


class Beliefs:
    """The rules that are still possible, of each of some boards of a Sokoban batch.

    `look` before every move and `learn` after it; both take the indices of the boards that are meant.
    """

    def __init__(self, batch: Any, controls: str) -> None:
        self.batch = batch
        self.prior = np.arange(len(RULES)) < NUM_RULES[controls]
        self.possible = np.tile(self.prior, (batch.num_envs, 1))
        self._leads_to = np.zeros((batch.num_envs, len(MOVES)), np.int64)

    def forget(self, boards: Boards) -> None:
        self.possible[boards] = self.prior

    def look(self, boards: Boards) -> None:
        self._leads_to[boards] = self.batch.state_hashes(boards)[:, 1:]

    def learn(self, boards: Boards, words: NDArray[np.int32]) -> None:
        """What happened after these words; -1 is none."""
        happened = self._leads_to[boards] == self.batch.state_hashes(boards)[:, :1]  # [B, 5]
        said = words >= 0
        boards, words, happened = boards[said], words[said], happened[said]
        moves = RULES[:, words].T  # [B, 120]
        self.possible[boards] &= np.take_along_axis(happened, moves, axis=1)


class ControlsExpert(Expert):
    """Says each word as often as it is right under the rules that are still possible (posterior sampling).

    It knows the shortest solution, not the controls. With a memory it keeps what earlier episodes of the
    trial have shown; without one each episode is like the first. Its note is what the trial has shown.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        controls = env.batch.controls
        self.num_words = len(MOVES) if controls == "broken" else 4
        self.actions = [env.reply([word]) for word in range(self.num_words)]
        self.seen = Beliefs(env.batch, controls)  # in all episodes
        self.episode = Beliefs(env.batch, controls)  # in this one
        self.words = np.full(num_trials, -1, np.int32)  # said last, in this episode

    def play(self, trials: Boards) -> tuple[list[str], NDArray[np.float64] | None]:
        self._learn(trials)
        memory = self.remembers[trials, None]
        possible = np.where(memory, self.seen.possible[trials], self.episode.possible[trials])
        right = self.right(trials, possible)
        right[right.sum(axis=1) == 0] = 1  # no solution any more: any word
        noise = self.noise[trials, None]
        chances = (1 - noise) * right / right.sum(axis=1, keepdims=True) + noise / self.num_words
        drawn = (chances.cumsum(axis=1) <= self.rng.random((len(trials), 1))).sum(axis=1)
        words = np.minimum(drawn, self.num_words - 1).astype(np.int32)
        self.words[trials] = words
        for beliefs in (self.seen, self.episode):
            beliefs.look(trials)
        return [self.actions[word] for word in words.tolist()], chances

    def right(self, trials: Boards, possible: Possible) -> NDArray[np.float64]:
        """[B, words]: how many of the rules that are possible [B, 120] make each word right."""
        agree = (RULES[None] == self._wanted(trials)[:, None, None]) & possible[:, :, None]
        return np.asarray(agree.sum(axis=1)[:, : self.num_words], np.float64)

    def reflect(self, trials: Boards) -> list[str]:
        self._learn(trials)
        self.episode.forget(trials)
        self.words[trials] = -1
        return [
            ", ".join(facts(self.seen.possible[trial], self.num_words)) or NOTHING
            for trial in trials.tolist()
        ]

    def _learn(self, trials: Boards) -> None:
        for beliefs in (self.seen, self.episode):
            beliefs.learn(trials, self.words[trials])

    def _wanted(self, trials: Boards) -> NDArray[np.int32]:
        """[B]: the next move of a shortest solution, -1 where there is none."""
        words = self.env.batch.expert_actions(trials)
        moves = RULES[self.env.batch.rules(trials), words]
        return np.where(words < 0, np.int32(-1), moves)
