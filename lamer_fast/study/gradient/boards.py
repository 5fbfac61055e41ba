"""All states of a small board, found by going back to each with `restore` and trying every action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.registry import make_env

ONE = np.zeros(1, np.int64)  # the board that everything is tried on
MAX_STATES = 20_000
Actions = Callable[[Any, str], Sequence[str]]


@dataclass(frozen=True)
class Outcome:
    """What an action leads to."""

    reward: float
    done: bool
    success: bool
    state: int


@dataclass(frozen=True)
class BoardGraph:
    """States are numbered from 0, the start; equal anchors are one state, an ended game has no actions."""

    seed: int
    views: tuple[str, ...]  # what the model sees of each state
    anchors: tuple[int, ...]
    actions: tuple[tuple[str, ...], ...]  # replies that can be given
    outcomes: tuple[tuple[Outcome, ...], ...]  # of each action

    @property
    def rules(self) -> tuple[Any, ...]:
        """All that decides a trial; two boards that share it differ in nothing."""
        return self.views, self.actions, self.outcomes


def explore(env: Any, seed: int, actions: Actions) -> BoardGraph:
    """Every state of the board of `seed`; `env` is a batch of one board or more that has snapshots.

    Raises:
        ValueError: there are more than MAX_STATES, or luck decides where a move leads.
    """
    if getattr(env, "luck", False):
        raise ValueError(
            "a world of the lab has no luck: its states could not be told apart by what they show"
        )
    env.reset(np.array([seed], np.uint64), ONE)
    views, anchors = env.observe(ONE), env.anchors(ONE).tolist()
    snapshots, over, known = [env.snapshot(ONE)], [False], {(anchors[0], False): 0}
    replies: list[tuple[str, ...]] = []
    outcomes: list[tuple[Outcome, ...]] = []
    for state, snapshot in enumerate(snapshots):  # grows while it is gone through
        env.restore(snapshot, ONE)
        replies.append(() if over[state] else tuple(actions(env, views[state])))
        found = []
        for reply in replies[state]:
            env.restore(snapshot, ONE)
            out = env.step([reply], ONE)
            key = int(env.anchors(ONE)[0]), bool(out.done[0])
            if key not in known:
                if len(known) >= MAX_STATES:
                    raise ValueError(f"the board of seed {seed} has more than {MAX_STATES} states")
                known[key] = len(known)
                views += env.observe(ONE)
                anchors.append(key[0])
                snapshots.append(env.snapshot(ONE))
                over.append(key[1])
            found.append(Outcome(float(out.rewards[0]), key[1], bool(out.success[0]), known[key]))
        outcomes.append(tuple(found))
    return BoardGraph(seed, tuple(views), tuple(anchors), tuple(replies), tuple(outcomes))


def alike(options: EnvOptions, actions: Actions, count: int, most_seeds: int = 20_000) -> list[BoardGraph]:
    """The first boards, by seeds from 0, that begin as that of seed 0 does and are not the same board.

    What tells them apart is hidden at the start, and a trial has to find it out.

    Raises:
        ValueError: fewer than two of them among `most_seeds` seeds.
    """
    env: Any = make_env(options, 1, split=None)
    found: list[BoardGraph] = []
    start = ""
    for seed in range(most_seeds):
        env.reset(np.array([seed], np.uint64), ONE)
        start = start or env.observe(ONE)[0]
        if env.observe(ONE)[0] != start:
            continue
        board = explore(env, seed, actions)
        if all(board.rules != other.rules for other in found):
            found.append(board)
        if len(found) == count:
            break
    if len(found) < 2:
        raise ValueError(f"{len(found)} board begins like that of seed 0 among {most_seeds}, expected 2")
    return found
