"""Dynamic sampling (DAPO, arXiv 2503.14476): which groups teach nothing, and others in their place.

Axis letters: M trials, K episodes, m trials that take the place of others.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamer_fast.rollout.join import TOKEN_STORE
from lamer_fast.rollout.trial_batch import TURN_COLUMNS, TrialBatch

Alike = Literal["rewards", "success"]


def flat_groups(trials: TrialBatch, group: NDArray[np.int32], by: Alike = "rewards") -> list[int]:
    """Groups whose trials are alike, ascending: nothing tells them apart.

    Compared are all trials of a group that its environment has not lost; a group of which one or none is left
    is flat too.

    Args:
        group: [M] of each trial, also of those that have no turns.
        by: the sums of rewards in every episode, exactly; or the episode that was won, if any.
    """
    earned = trials.success_by_episode.astype(np.float64)
    if by == "rewards":
        earned[:] = 0
        np.add.at(earned, (trials.trial, trials.episode), trials.rewards)
    played = np.diff(trials.cu_trials) > 0

    def is_flat(g: int) -> bool:
        rows = earned[(group == g) & played]
        return bool((rows == rows[:1]).all())

    return [g for g in np.unique(group).tolist() if is_flat(g)]


def replaced(trials: TrialBatch, others: TrialBatch, at: NDArray[np.int64]) -> TrialBatch:
    """`trials` with those of `others` [m] as its trials `at` [m], ascending; both with all their tokens."""
    if len(at) == 0:
        return trials
    take = dict(zip(at.tolist(), range(len(at)), strict=True))
    chosen = [(others, take[m]) if m in take else (trials, m) for m in range(trials.num_trials)]
    pieces = list(_pieces(chosen))
    stores = [slice(p.cu_seqlens[s.start], p.cu_seqlens[s.stop]) for p, _, _, s in pieces]
    cu_trials = _starts(rows.stop - rows.start for _, _, rows, _ in pieces)
    first_sequence = _starts(s.stop - s.start for _, _, _, s in pieces)
    first_token = _starts(store.stop - store.start for store in stores)
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(p, name)[rows] for p, _, rows, _ in pieces]) for name in TURN_COLUMNS
    }
    moved = {
        "trial": [m - i for m, (_, i, _, _) in enumerate(pieces)],
        "sequence": [first_sequence[m] - s.start for m, (_, _, _, s) in enumerate(pieces)],
        "token_start": [first_token[m] - store.start for m, store in enumerate(stores)],
    }
    for name, by in (*moved.items(), ("token_end", moved["token_start"])):
        columns[name] = (columns[name] + np.repeat(by, np.diff(cu_trials))).astype(columns[name].dtype)
    for name in ("seed", "task", "success_by_episode"):
        columns[name] = np.stack([getattr(p, name)[i] for p, i, _, _ in pieces])
    for name in TOKEN_STORE:
        columns[name] = np.concatenate(
            [getattr(p, name)[s] for (p, *_), s in zip(pieces, stores, strict=True)]
        )
    lengths = [np.diff(p.cu_seqlens)[s] for p, _, _, s in pieces]
    errors = {m: p.errors[i] for m, (p, i, _, _) in enumerate(pieces) if i in p.errors}
    cu_seqlens = _starts(np.concatenate(lengths))
    return TrialBatch(cu_seqlens=cu_seqlens, cu_trials=cu_trials, errors=errors, **columns)


def _pieces(chosen: list[tuple[TrialBatch, int]]) -> Iterator[tuple[TrialBatch, int, slice, slice]]:
    """Of each trial: its batch, its number there, its rows, its sequences."""
    first = {id(batch): _first_sequences(batch) for batch, _ in chosen}
    for batch, i in chosen:
        of_trial = first[id(batch)]
        yield batch, i, slice(*batch.cu_trials[i : i + 2].tolist()), slice(*of_trial[i : i + 2].tolist())


def _first_sequences(trials: TrialBatch) -> NDArray[np.int64]:
    """[M+1] the first sequence of each trial; they stand in the order of the trials, a lost one has none."""
    first = np.full(trials.num_trials + 1, trials.num_sequences, np.int64)
    played = np.flatnonzero(np.diff(trials.cu_trials) > 0)
    first[played] = trials.sequence[trials.cu_trials[played]]
    return np.minimum.accumulate(first[::-1])[::-1]


def _starts(counts: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *counts], dtype=np.int64)
