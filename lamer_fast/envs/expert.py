"""Expert: players that know what the texts do not show, for warm starts. One plays each trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.contract import EnvError, check_texts, describe
from lamer_fast.envs.replies import action
from lamer_fast.envs.splits import mixed


class Expert:
    """Plays `expert_replies` of the environment with noise; `trials` are board indices.

    Args:
        noise: levels; a player draws one, and takes a random legal action with this probability.
        memory: share of the players that use what earlier episodes of their trial revealed.

    Attributes:
        actions: the reply of each action that the distributions of `play` are over; none without them.
    """

    actions: Sequence[str] = ()

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        self.env = env
        self.rng = rng
        self.noise = rng.choice(np.array(noise), num_trials)
        self.remembers = rng.random(num_trials) < memory
        self.last = [""] * num_trials  # reply, without its tags

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        """A reply to the board of each trial, and the distribution over `actions` that it was drawn from.

        The distribution is [B, len(actions)], or None of an expert that has none.
        """
        seeds = self.rng.integers(0, 2**63, len(trials), dtype=np.uint64)
        replies = self._ask("expert_replies", trials, self.noise[trials], seeds)
        for trial, reply in zip(trials.tolist(), replies, strict=True):
            content = action(reply)
            self.last[trial] = reply if content is None else content
        return replies, None

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        """What happened in the episode that each trial has just failed."""
        if callable(getattr(self.env, "expert_notes", None)):
            return self._ask("expert_notes", trials)
        return [f"last: {self.last[trial]}" for trial in trials.tolist()]

    def _ask(self, name: str, trials: NDArray[np.int64], *arguments: Any) -> list[str]:
        if len(trials) == 0:
            return []
        try:
            return check_texts(name, getattr(self.env, name)(trials.copy(), *arguments), trials)
        except EnvError:
            raise
        except (Exception, SystemExit) as error:
            raise EnvError(f"{name}() {describe(error)}") from error


def with_noise(
    replies: Sequence[str],
    choices: Sequence[Sequence[str]],
    noise: float | NDArray[np.floating[Any]],
    seeds: NDArray[np.uint64],
) -> list[str]:
    """Each reply, or with probability `noise`, and where the expert knows none (""), a random legal one.

    Args:
        choices: what `legal_actions` says of each board; where there is nothing the reply stays.
        noise: a number in [0, 1], or [B] of them.
        seeds: [B] uint64, the only source of randomness.
    """
    first = mixed(seeds)
    draws, picks = _uniform(first), _uniform(mixed(first))
    noisy = draws < np.broadcast_to(np.asarray(noise, np.float64), (len(replies),))
    rows = zip(replies, choices, noisy.tolist(), picks.tolist(), strict=True)
    return [legal[int(pick * len(legal))] if legal and (n or not r) else r for r, legal, n, pick in rows]


def _uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (bits >> np.uint64(11)).astype(np.float64) / 2.0**53
