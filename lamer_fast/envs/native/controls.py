"""Sokoban under controls that must be found out: what a player can know of them, and a teacher.

A rule says which word makes which move. It belongs to the task: every episode of a trial, and every trial
of a group, has the same. A belief is the set of rules that agree with all that was seen. With sticky moves it
also says how many repeated moves each of them needs for it: the more, the less likely.
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
IMPOSSIBLE = 255  # repeats that no number explains

Boards = NDArray[np.int64]
Repeats = NDArray[np.uint8]


def facts(repeats: Repeats, num_words: int) -> list[str]:
    """What a player with this belief [120] is sure of: `up: left`, in the order of the words."""
    rules = RULES[repeats != IMPOSSIBLE, :num_words]
    sure = np.flatnonzero((rules == rules[0]).all(axis=0))
    return [fact(word, int(rules[0, word])) for word in sure.tolist()]


def fact(word: int, move: int) -> str:
    return f"{MOVES[word]}: {MOVES[move]}"


def prior(controls: str) -> Repeats:
    """[120], before anything was seen."""
    return np.where(np.arange(len(RULES)) < NUM_RULES[controls], 0, IMPOSSIBLE).astype(np.uint8)


class Beliefs:
    """What may be believed of the rule of each of some boards of a Sokoban batch.

    `look` before every move and `learn` after it; both take the indices of the boards that are meant.

    Attributes:
        repeats: [boards, 120], repeated moves that each rule needs, 0 for the likeliest; IMPOSSIBLE.
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.repeats = np.tile(prior(batch.controls), (batch.num_envs, 1))
        self._leads_to = np.zeros((batch.num_envs, len(MOVES) + 1), np.int64)

    def forget(self, boards: Boards) -> None:
        self.repeats[boards] = prior(self.batch.controls)

    def look(self, boards: Boards) -> None:
        self._leads_to[boards] = self.batch.state_hashes(boards)[:, 1:]

    def learn(self, boards: Boards, words: NDArray[np.int32]) -> None:
        """What happened after these words; -1 is none."""
        happened = self._leads_to[boards] == self.batch.state_hashes(boards)[:, :1]  # [B, 6]
        said = words >= 0
        boards, words, happened = boards[said], words[said], happened[said]
        moves = RULES[:, words].T  # [B, 120]
        needed = self.repeats[boards].astype(np.int64)
        again = np.where(happened[:, -1:], needed + 1, IMPOSSIBLE)  # the last move, in place of the word's
        needed = np.where(np.take_along_axis(happened, moves, axis=1), needed, again)
        possible = (self.repeats[boards] != IMPOSSIBLE) & (needed != IMPOSSIBLE)
        needed -= np.where(possible, needed, IMPOSSIBLE).min(axis=1, keepdims=True)
        self.repeats[boards] = np.where(possible, needed, IMPOSSIBLE)


class ControlsExpert(Expert):
    """Says each word as often as it is right under the rules that are still possible (posterior sampling).

    It knows the shortest solution, not the controls. With a memory it keeps what earlier episodes of the
    trial have shown; without one each episode is like the first. Its note is what the trial has shown.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        self.num_words = len(MOVES) if env.batch.controls == "broken" else 4
        self.actions = [env.reply([word]) for word in range(self.num_words)]
        self.seen = Beliefs(env.batch)  # in all episodes
        self.episode = Beliefs(env.batch)  # in this one
        self.words = np.full(num_trials, -1, np.int32)  # said last, in this episode

    def play(self, trials: Boards) -> tuple[list[str], NDArray[np.float64] | None]:
        self._learn(trials)
        memory = self.remembers[trials, None]
        repeats = np.where(memory, self.seen.repeats[trials], self.episode.repeats[trials])
        right = self.right(trials, repeats)
        right[right.sum(axis=1) == 0] = 1  # no solution any more: any word
        noise = self.noise[trials, None]
        chances = (1 - noise) * right / right.sum(axis=1, keepdims=True) + noise / self.num_words
        drawn = (chances.cumsum(axis=1) <= self.rng.random((len(trials), 1))).sum(axis=1)
        words = np.minimum(drawn, self.num_words - 1).astype(np.int32)
        self.words[trials] = words
        for beliefs in (self.seen, self.episode):
            beliefs.look(trials)
        return [self.actions[word] for word in words.tolist()], chances

    def right(self, trials: Boards, repeats: Repeats) -> NDArray[np.float64]:
        """[B, words]: how many rules make each word right, each as likely as `repeats` [B, 120] says."""
        likely = np.where(repeats == IMPOSSIBLE, 0.0, self.env.batch.sticky ** repeats.astype(np.float64))
        agree = (RULES[None] == self._wanted(trials)[:, None, None]) * likely[:, :, None]
        return np.asarray(agree.sum(axis=1)[:, : self.num_words], np.float64)

    def reflect(self, trials: Boards) -> list[str]:
        self._learn(trials)
        self.episode.forget(trials)
        self.words[trials] = -1
        return [
            ", ".join(facts(self.seen.repeats[trial], self.num_words)) or NOTHING for trial in trials.tolist()
        ]

    def _learn(self, trials: Boards) -> None:
        for beliefs in (self.seen, self.episode):
            beliefs.learn(trials, self.words[trials])

    def _wanted(self, trials: Boards) -> NDArray[np.int32]:
        """[B]: the next move of a shortest solution, -1 where there is none."""
        words = self.env.batch.expert_actions(trials)
        moves = RULES[self.env.batch.rules(trials), words]
        return np.where(words < 0, np.int32(-1), moves)
