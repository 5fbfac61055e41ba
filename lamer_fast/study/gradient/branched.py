"""Trials of a language model, and many ways on from before each of their turns: one table of whole trials.

Axis letters: N turns of the trials that are looked at, G trials of a group, M branches of a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.agent import Agent
from lamer_fast.config import RolloutConfig
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.branches import Branches, MarkedTrials, Place
from lamer_fast.rollout.trial_batch import Phase, TrialBatch
from lamer_fast.samplers.protocol import Sampler
from lamer_fast.study.gradient.table import Table

FIRST, NOTES, LATER = "first", "notes", "later"
Ids = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]


class Ways(NamedTuple):
    """How trials go on: their turns, as columns of a `Table`, and where each one's begin."""

    columns: Columns
    cu_trials: Ids

    def of(self, first: int, count: int) -> Ways:
        """`count` of them, from the one numbered `first` on."""
        ends = self.cu_trials[first : first + count + 1]
        return Ways({n: x[ends[0] : ends[-1]] for n, x in self.columns.items()}, ends - ends[0])


class Players(NamedTuple):
    """Who plays, and where; `env` has as many boards as branches may be played at a time."""

    sampler: Sampler
    env: TextBatchEnv
    agent: Agent
    rollout: RolloutConfig


@dataclass(frozen=True)
class Branched:
    """One board: its group of trials, and M branches from before each of their turns.

    A branch is a whole trial of `table`: the turns that were played before, and then its own. Branches before
    a turn draw its action anew; what comes after it is the branches before the next turn, or the end.
    """

    table: Table  # of one board; trials 0..G-1 are the group, the others the branches
    before: Ids  # [N, M] trials
    after: Ids  # [N, M] those that begin with the turn as it was played
    trial: Ids  # [N] 0..G-1, of each turn
    place: Ids  # [N] number of the turn in its trial

    @property
    def parts(self) -> dict[str, NDArray[np.bool_]]:
        """[N] plays of the first episode, notes, later plays."""
        notes = self.table.turns["phase"][: len(self.place)] == Phase.REFLECT
        first = self.table.turns["episode"][: len(self.place)] == 0
        found = {FIRST: first, NOTES: notes, LATER: ~first & ~notes}
        return {name: turns for name, turns in found.items() if turns.any()}


def play(players: Players, boards: Boards, seed: int) -> tuple[TrialBatch, list[list[Place]]]:
    """The trials, and the places of each [M]. Raises ValueError if the environment lost any."""
    scheduler = MarkedTrials(*players[:3], boards, players.rollout, seed=seed)
    while scheduler.advance():
        pass
    return _whole(scheduler.result()), scheduler.places


class _Kept:
    """A sampler that keeps what it has read of a trial after its end: the next branch from the same place
    reads on from there."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def release(self, trial: int) -> None:
        pass


def branch(players: Players, places: Sequence[Place], branches: int, seed: int, numbers: Ids) -> Ways:
    """How so many `branches` go on from every place: [places * branches], place after place.

    Args:
        seed: of the draws, with `numbers` [places]: what is drawn from a place is a function of both alone.
    """
    found = []
    for start in range(0, len(places), players.env.num_envs):
        some = slice(start, start + players.env.num_envs)
        found.append(_branch(players, places[some], branches, seed, numbers[some]))
    columns = {name: np.concatenate([ways.columns[name] for ways in found]) for name in found[0].columns}
    lengths = np.concatenate([np.diff(ways.cu_trials) for ways in found])
    return Ways(columns, np.concatenate([[0], np.cumsum(lengths)]))


def _branch(players: Players, places: Sequence[Place], branches: int, seed: int, numbers: Ids) -> Ways:
    """Of no more places than there are boards: a branch of each at a time."""
    rounds, kept = [], _Kept(players.sampler)
    for m in range(branches):
        of_round = numbers * branches + m
        scheduler = Branches(kept, *players[1:3], places, players.rollout, seed=seed, numbers=of_round)
        while scheduler.advance():
            pass
        rounds.append(_whole(scheduler.result()))
    for trial in range(len(places)):
        players.sampler.release(trial)
    every = [columns_of(trials) for trials in rounds]
    columns = {name: np.concatenate([part[name] for part in every]) for name in every[0]}
    lengths = np.concatenate([np.diff(trials.cu_trials) for trials in rounds])
    starts = np.cumsum(lengths) - lengths
    order = np.arange(len(lengths)).reshape(branches, len(places)).T.ravel()  # place after place
    rows = np.concatenate(
        [np.arange(start, start + n) for start, n in zip(starts[order], lengths[order], strict=True)]
    )
    ends = np.concatenate([[0], np.cumsum(lengths[order])])
    return Ways({name: column[rows] for name, column in columns.items()}, ends)


def branched(trials: TrialBatch, ways: Ways, branches: int) -> Branched:
    """Of the group of one board and of `branch` from all its places, trial after trial."""
    columns = {name: np.concatenate([of, ways.columns[name]]) for name, of in columns_of(trials).items()}
    G, R = trials.num_trials, trials.num_turns
    rows = [np.arange(start, end) for start, end in _spans(trials.cu_trials)]
    place = np.concatenate([np.arange(len(own)) for own in rows])
    for n in range(R):
        prefix = rows[trials.trial[n]][: place[n]]
        for start, end in _spans(ways.cu_trials[n * branches : (n + 1) * branches + 1]):
            rows.append(np.concatenate([prefix, np.arange(R + start, R + end)]))
    before = G + np.arange(R * branches).reshape(R, branches)
    ends = np.append(place[1:] == 0, True)
    played = np.broadcast_to(trials.trial.astype(np.int64)[:, None], before.shape)
    after = np.where(ends[:, None], played, np.roll(before, -1, axis=0))
    table = _table(columns, rows, trials.success_by_episode.shape[1], int(trials.seed[0]))
    return Branched(table, before, after, trials.trial.astype(np.int64), place)


def columns_of(trials: TrialBatch) -> Columns:
    """What a `Table` has of each turn."""
    return {
        "reward": trials.rewards, "episode": trials.episode, "turn": trials.turn, "phase": trials.phase,
        "anchor": trials.anchors, "success": trials.success, "done": trials.done, "valid": trials.valid,
        "tokens": trials.token_end - trials.token_start,
    }  # fmt: skip


def _table(columns: Columns, rows: Sequence[Ids], episodes: int, seed: int) -> Table:
    flat, lengths = np.concatenate(rows), np.array([len(own) for own in rows])
    turns = {name: column[flat] for name, column in columns.items()}
    won = np.zeros((len(rows), episodes), bool)
    trial = np.repeat(np.arange(len(rows)), lengths)
    won[trial[turns["success"]], turns["episode"][turns["success"]]] = True
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return Table(turns, ends, np.zeros(len(rows), np.int64), np.array([seed], np.uint64), won)


def _spans(offsets: Ids) -> list[tuple[int, int]]:
    return list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))


def _whole(trials: TrialBatch) -> TrialBatch:
    if trials.errors:
        raise ValueError(trials.lost())
    return trials
