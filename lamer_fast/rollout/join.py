"""The trials of all ranks as one TrialBatch: every turn is there, tokens only where they were sampled."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.trial_batch import TURN_COLUMNS, TrialBatch

TOKEN_STORE = ("tokens", "loss_mask", "rollout_logprobs")


def without_tokens(trials: TrialBatch) -> TrialBatch:
    """What the other ranks need of it."""
    empty: dict[str, Any] = {name: getattr(trials, name)[:0] for name in TOKEN_STORE}
    return replace(trials, **empty)


def join(parts: Sequence[TrialBatch], own: TrialBatch, rank: int, boards: Boards) -> TrialBatch:
    """Of rank r's trials in `parts[r]`, `without_tokens`, and this rank's with them.

    The token store has room for everything; what other ranks hold reads as 0 and takes no memory until it is
    touched, see `held`. Sequences stand rank by rank, turns in the order of the trials of all `boards`.
    """
    world = len(parts)
    if world == 1:
        return own
    ids = [boards.share(r, world).trial for r in range(world)]
    first_sequence = _starts([part.num_sequences for part in parts])
    first_token = _starts([int(part.cu_seqlens[-1]) for part in parts])
    moved = {
        "trial": [ids[r][part.trial].astype(np.int32) for r, part in enumerate(parts)],
        "sequence": [(part.sequence + first_sequence[r]).astype(np.int32) for r, part in enumerate(parts)],
        "token_start": [part.token_start + first_token[r] for r, part in enumerate(parts)],
        "token_end": [part.token_end + first_token[r] for r, part in enumerate(parts)],
    }
    order = np.argsort(np.concatenate(moved["trial"]), kind="stable")
    columns: dict[str, Any] = {
        name: np.concatenate(moved.get(name) or [getattr(part, name) for part in parts])[order]
        for name in TURN_COLUMNS
    }
    M, lengths = len(boards), np.concatenate([np.diff(part.cu_seqlens) for part in parts])
    held = np.repeat(np.arange(world), [part.num_sequences for part in parts]) == rank
    store = slice(first_token[rank], first_token[rank + 1])
    errors = {int(ids[r][t]): text for r, part in enumerate(parts) for t, text in part.errors.items()}
    return TrialBatch(
        **{name: _room(getattr(own, name), int(first_token[-1]), store) for name in TOKEN_STORE},
        cu_seqlens=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        **columns,
        cu_trials=np.concatenate([[0], np.cumsum(np.bincount(columns["trial"], minlength=M))]),
        seed=boards.seeds,
        task=_by_trial([part.task for part in parts], ids),
        success_by_episode=_by_trial([part.success_by_episode for part in parts], ids),
        errors=dict(sorted(errors.items())),
        held=held,
    )


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _room(own: NDArray[Any], length: int, at: slice) -> NDArray[Any]:
    store = np.zeros(length, own.dtype)
    store[at] = own
    return store


def _by_trial(parts: Sequence[NDArray[Any]], ids: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    where = np.argsort(np.concatenate(list(ids)))
    return np.asarray(np.concatenate(list(parts))[where])
