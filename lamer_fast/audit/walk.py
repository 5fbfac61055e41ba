"""Walks the operations of a side and names the first one that is not what the model says."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lamer_fast.audit.kinds import kind_of
from lamer_fast.audit.operations import operations
from lamer_fast.audit.reference import Reference
from lamer_fast.audit.replay import Replay
from lamer_fast.audit.sides import Side
from lamer_fast.audit.trace import Trace

MAX_VALUES = 1 << 27  # of one trace
TOGETHER = 4  # replays that are played beside the one that is traced
WIDTHS = 8  # of the stream, about, that a trace holds per token and layer


@dataclass(frozen=True)
class Finding:
    side: str
    where: str
    kind: str
    words: str
    error: float = 0.0
    tolerance: float = 0.0

    def __str__(self) -> str:
        text = f"{self.side}, {self.where}: {self.kind} ({self.words})"
        return (
            f"{text}; off by {self.error:.1e}, rounding explains {self.tolerance:.1e}" if self.error else text
        )


@torch.no_grad()
def first_difference(trace: Trace, replay: Replay, reference: Reference, side: str) -> Finding | None:
    for op in operations(trace, replay, reference):
        exact = op.exact()
        tolerance = op.tolerance(exact)
        error = float(op.errors(exact).nan_to_num(nan=torch.inf, posinf=torch.inf).max())
        if error > tolerance:
            kind = kind_of(op, exact, tolerance)
            return Finding(side, op.where, kind.name, kind.words, error, tolerance)
    return None


def locate(
    sides: Sequence[Side], replays: Sequence[Replay], at: tuple[int, int] | None, reference: Reference
) -> Finding | None:
    """What the sides compute otherwise than plain torch over the trainer's weights does.

    Args:
        at: the (replay, place) where their distributions part; None: nowhere.

    Returns:
        The first difference; None only where `at` is None.
    """
    config = reference.model.config
    room = MAX_VALUES // (config.num_hidden_layers * WIDTHS * config.hidden_size)
    index, place = at or (0, min(room, int(replays[0].places[-1])))
    if place > room:
        return _unknown("sampler", f"they part at token {place}, a trace has room for {room}")
    near = [index, *(r for r in range(len(replays)) if r != index)][:TOGETHER]
    short = [replay for replay in (replays[r].until(place) for r in near) if len(replay.places)]
    if not short or near[0] != index:
        return None
    blind = ""
    for side in sides:
        trace = side.trace(short, 0)
        if trace is None:
            blind = side.name
        elif found := first_difference(trace, short[0], reference, side.name):
            return found
    if at is None:
        return None
    if blind:
        return _unknown(blind, "it shows nothing but its distributions")
    words = "computed afresh every layer agrees: what was kept from before does not"
    return Finding("sampler", "state between requests", "cache", words)


def _unknown(side: str, words: str) -> Finding:
    return Finding(side, "not walked", "unknown", words)
