"""Expert: players that know what the texts do not show, for warm starts. One plays each trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Expert:
    """Plays `expert_replies` of the environment with noise; `trials` are board indices.

    Args:
        noise: levels; a player draws one, and takes a random legal action with this probability.
        memory: share of the players that use what earlier episodes of their trial revealed.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        self.env = env
        self.rng = rng
        self.noise = rng.choice(np.array(noise), num_trials)
        self.remembers = rng.random(num_trials) < memory
        self.last = [""] * num_trials  # reply, without its tags

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        """A reply to the board of each trial, and the distribution over single actions it was drawn from.

        The distribution is [B, num_actions], or None of an expert whose replies are several actions.
        """
        seeds = self.rng.integers(0, 2**63, len(trials), dtype=np.uint64)
        replies: list[str] = self.env.expert_replies(trials, self.noise[trials], seeds)
        for trial, reply in zip(trials.tolist(), replies, strict=True):
            self.last[trial] = reply.removeprefix("<action>").removesuffix("</action>")
        return replies, None

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        """What happened in the episode that each trial has just failed."""
        return [f"last: {self.last[trial]}" for trial in trials.tolist()]
