"""The table of a language model's cell."""

from __future__ import annotations

import math

from lamer_fast.study.gradient.branched import FIRST, LATER, NOTES
from lamer_fast.study.gradient.cells import known, told, with_error
from lamer_fast.study.gradient.measure import CLAIM, SUCCESS, WHOLE
from lamer_fast.study.gradient.models import ModelCell
from lamer_fast.study.gradient.record import OfArm, Record
from lamer_fast.study.tables import Table

PARTS = {FIRST: "first episode", NOTES: "notes", LATER: "later episodes"}


def of_model(cell: ModelCell, record: Record) -> Table:
    """Every arm: its gradient against the true ones, then its advantages against those for success@K."""
    parts = [part for part in PARTS if part in next(iter(record.arms.values())).parts]
    columns = ["arm", "claims to climb", "cosine to that", "scale", "cosine to success@K", "bias", "variance"]
    columns += ["one update", "correlation", "one turn", *(f"weight, {PARTS[part]}" for part in parts)]
    rows = []
    for arm in cell.arms:
        if arm.name in record.arms:
            rows.append([arm.name, *_row(record.arms[arm.name], parts)])
    counts, truth = record.counts, record.truth
    shown = " / ".join(f"{100 * p:.0f}" for p in record.within)
    title = (
        f"{cell.name} (success@1..K {shown} %), groups of {cell.size}, {counts['boards']} boards, "
        f"{counts['turns']:,} turns with {counts['branches']:,} branches; true advantages for success@K "
        f"have a spread of {truth['spread']:.3f}, each an error of {truth['error']:.3f}"
    )
    return told(Table(title, columns, rows))


def _row(arm: OfArm, parts: list[str]) -> list[str]:
    claim, goal, turns = arm.parts[WHOLE][CLAIM], arm.parts[WHOLE][SUCCESS], arm.turns[WHOLE][SUCCESS]
    return [
        arm.claims, with_error(claim.cosine, claim.cosine_error), known(claim.scale, ".2f"),
        with_error(goal.cosine, goal.cosine_error), known(100 * goal.bias, ".0f", " %"),
        known(goal.noise, ".1f"), known(goal.one, ".3f"),
        with_error(turns.cosine, turns.cosine_error), known(turns.one, ".3f"),
        *(with_error(*weight(arm, part), 2) for part in parts),
    ]  # fmt: skip


def weight(arm: OfArm, part: str) -> tuple[float, float]:
    """How much of a true advantage for success@K the arm gives to a turn of the part, as a share of what it
    gives to turns as a whole, and its error: 1 everywhere is in proportion."""
    whole, own = arm.turns[WHOLE][SUCCESS].scale, arm.turns[part][SUCCESS]
    if not whole or math.isnan(own.scale_error):  # its turns have no true advantage above the noise
        return math.nan, math.nan
    return own.scale / whole, own.scale_error / abs(whole)
