"""A complete environment of one's own in pure Python: find a hidden number by "higher" and "lower".

Copy this file to start: a class with these members and a function that makes it are all that the trainer
needs (`protocol.py`). It is played as `env.name = "lamer_fast.envs.toy:make"`, and `check_env(NumberHunt(4))`
says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.protocol import TurnOut
from lamer_fast.envs.replies import answer
from lamer_fast.fields import Range

REPLY = re.compile(r"<action>\s*(\d{1,4})\s*</action>")


@dataclass(frozen=True)
class Options:
    highest: Annotated[int, Range(2, 9999)] = 50
    """The largest number that may hide."""


def make(options: Options, num_envs: int) -> NumberHunt:
    return NumberHunt(num_envs, options.highest)


class NumberHunt:
    """`num_envs` hidden numbers in 1..highest. Reward 1 for the right guess, 0 otherwise."""

    def __init__(self, num_envs: int, highest: int = 20) -> None:
        self.num_envs = num_envs
        self.highest = highest
        self.targets = np.zeros(num_envs, np.int64)
        self.texts = [""] * num_envs
        self.solved = np.zeros(num_envs, bool)

    def reset(self, seeds: NDArray[np.uint64], env_idx: NDArray[np.int64] | None = None) -> None:
        boards = np.arange(self.num_envs) if env_idx is None else env_idx
        for i, seed in zip(boards, seeds, strict=True):
            self.targets[i] = np.random.default_rng(int(seed)).integers(1, self.highest + 1)
        self.restart(boards)

    def restart(self, env_idx: NDArray[np.int64]) -> None:
        for i in env_idx:
            self.texts[i], self.solved[i] = "No guess yet.", False

    def step(self, replies: Sequence[str], env_idx: NDArray[np.int64]) -> TurnOut:
        was_solved = self.solved[env_idx]
        guesses = [REPLY.search(answer(reply)) for reply in replies]  # not what it thought aloud
        for i, guess in zip(env_idx, guesses, strict=True):
            if guess is None or self.solved[i]:
                continue  # an unparsable reply changes nothing, a finished board ignores its reply
            difference = self.targets[i] - int(guess[1])
            self.solved[i] = difference == 0
            word = "right" if difference == 0 else "too low" if difference > 0 else "too high"
            self.texts[i] = f"{guess[1]} is {word}."
        solved = self.solved[env_idx]
        return TurnOut(
            rewards=(solved & ~was_solved).astype(np.float32),
            done=solved,
            truncated=np.zeros(len(replies), bool),
            success=solved.copy(),
            valid=np.array([guess is not None for guess in guesses], bool),
            error=[None] * len(replies),
        )

    def observe(self, env_idx: NDArray[np.int64]) -> list[str]:
        return [self.texts[i] for i in env_idx]

    def task_prompt(self) -> str:
        return f"Guess the number from 1 to {self.highest}. Answer like this: <action>7</action>"

    def tasks(self, env_idx: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Optional: with it, no number that training has seen hides in an evaluation."""
        return self.targets[env_idx].astype(np.uint64)
