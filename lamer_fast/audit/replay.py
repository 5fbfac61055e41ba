"""What is replayed: token sequences with the places where replies were sampled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamer_fast.rollout.trial_batch import TrialBatch

FIRST, NEXT, CACHED, TRANSFER = (
    "first token", "next tokens", "after a cached prefix", "after a weight transfer"
)  # fmt: skip
KINDS = (FIRST, NEXT, CACHED, TRANSFER)


@dataclass(frozen=True)
class Replay:
    """A place p asks for the distribution of the token at p, given those before it."""

    token_ids: NDArray[np.int64]  # [n]
    places: NDArray[np.int64]  # [P] ascending, each in 1..n
    kinds: tuple[str, ...]  # [P]

    def until(self, place: int) -> "Replay":
        """The same up to a place."""
        keep = self.places <= place  # of another sequence than the one that is cut, perhaps none
        kinds = tuple(kind for kind, kept in zip(self.kinds, keep, strict=True) if kept)
        return Replay(self.token_ids[:place], self.places[keep], kinds)


def of_trials(trials: TrialBatch, *, sequences: int, tokens_per_turn: int) -> list[Replay]:
    """The first stored sequences with a sampled token, each with the first few tokens of every reply."""
    found = []
    for s in range(trials.num_sequences):
        start, end = (int(i) for i in trials.cu_seqlens[s : s + 2])
        places: list[int] = []
        kinds: list[str] = []
        for row in np.flatnonzero(trials.sequence == s):
            first = int(trials.token_start[row]) - start
            count = min(tokens_per_turn, int(trials.token_end[row] - trials.token_start[row]))
            if first < 1 or count < 1:
                continue
            kinds += [CACHED if places else FIRST] + [NEXT] * (count - 1)
            places += range(first, first + count)
        if places:
            ids = trials.tokens[start:end].astype(np.int64)
            found.append(Replay(ids[: places[-1] + 1], np.array(places), tuple(kinds)))
        if len(found) == sequences:
            break
    if not found:
        raise ValueError("the trials have no sampled token to audit")
    return found


def of_sequences(sequences: Sequence[object]) -> list[Replay]:
    """Every place of plain token sequences.

    Raises:
        ValueError: one is empty.
    """
    found = []
    for sequence in sequences:
        ids = np.asarray(sequence, np.int64)
        if ids.ndim != 1 or len(ids) == 0:
            raise ValueError(f"a sequence has shape {ids.shape}, must be [n] token ids with n >= 1")
        kinds = (FIRST,) + (NEXT,) * (len(ids) - 1)
        found.append(Replay(ids, np.arange(1, len(ids) + 1), kinds))
    return found
