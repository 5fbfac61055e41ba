"""Trials that go on from the middle of others: each turn of a trial is a place to go back to.

A place is the environment's `snapshot` of the board and all that the trial keeps as text. Many branches go on
from one place, each by draws of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.agent import Agent, Ask
from lamer_fast.agent.memory import Memory
from lamer_fast.config import RolloutConfig
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.rng import turn_seeds
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.scheduler import OVER, TrialScheduler
from lamer_fast.rollout.sequence import Sequence
from lamer_fast.samplers.protocol import Sampler


@dataclass(frozen=True)
class Place:
    """A trial before one of its turns: what decides how it goes on, but for the draws."""

    board: int  # the seed of its board
    state: bytes  # of the environment
    memory: Memory
    tokens: NDArray[np.int32]  # all that the model reads before its reply
    ask: Ask
    episode: int
    turn: int  # of the episode
    anchor: int


class MarkedTrials(TrialScheduler):
    """Keeps in `places` [M] those of every trial, in the order of its turns.

    Raises:
        ValueError: the environment has no snapshots.
    """

    def _begin(self) -> None:
        self._states = with_snapshots(self.env.env)
        self.places: list[list[Place]] = [[] for _ in range(len(self.boards))]
        super()._begin()

    def _submit(self, ask: Ask, trial: int, prompt: NDArray[np.int32], seed: int, opens: bool) -> None:
        super()._submit(ask, trial, prompt, seed, opens)
        if self._status[trial] == OVER:
            return
        place = Place(
            int(self.boards.seeds[trial]),
            self._states.snapshot(np.array([trial])),
            copy.deepcopy(self._memories[trial]),
            self._sequences[trial][-1].tokens.copy(),
            ask,
            int(self._episode[trial]),
            int(self._turn[trial]),
            int(self._anchors[trial]),
        )
        self.places[trial].append(place)


class Branches(TrialScheduler):
    """Trial m goes on from `places[m]`: its turns are those that follow, its first sequence begins with what
    was read before them.

    Args:
        seed: of the draws, with `numbers` [M] of the branches: two of one number draw alike.
    """

    def __init__(
        self,
        sampler: Sampler,
        env: TextBatchEnv,
        agent: Agent,
        places: Seq[Place],
        rollout: RolloutConfig,
        *,
        seed: int,
        numbers: NDArray[np.int64],
    ) -> None:
        self._places, self._states = places, with_snapshots(env)
        seeds = np.array([place.board for place in places], np.uint64)
        boards = Boards(seeds, np.zeros(len(places), np.int32), numbers)
        super().__init__(sampler, env, agent, boards, rollout, seed=seed)

    def _begin(self) -> None:
        trials = np.arange(len(self._places))
        seeds = turn_seeds(self._seed, self.boards.trial, np.zeros(len(trials), np.int64))
        for t, place in enumerate(self._places):
            self._states.restore(place.state, trials[t : t + 1])
            self._memories[t] = copy.deepcopy(place.memory)
            self._status[t], self._episode[t] = place.ask, place.episode
            self._turn[t], self._anchors[t] = place.turn, place.anchor
            read = Sequence(2 * len(place.tokens))
            read.extend(place.tokens)
            self._sequences[t].append(read)
            self._request(t, int(seeds[t]), place.ask == Ask.REFLECTION)


def with_snapshots(env: Any) -> Any:
    """Raises ValueError where the environment has none."""
    if not all(callable(getattr(env, name, None)) for name in ("snapshot", "restore")):
        raise ValueError(
            f"{type(env).__name__} has no snapshot() and restore(): no trial can be gone back to"
        )
    return env
