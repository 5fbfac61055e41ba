"""Where the figures of a part come from: its cells, what they took, commits, and the boards of `test`."""

from __future__ import annotations

from collections.abc import Sequence

from lamer_fast.study.result import CellResult
from lamer_fast.study.tables import Table

ORIGIN = "where the figures come from"
COLUMNS = [
    "part", "cells", "minutes of training", "CPU minutes of training", "minutes of evaluation", "commits",
    "processor", "panel of test",
]  # fmt: skip
DIGITS = 7  # of a commit


def origin(results: Sequence[CellResult]) -> Table:
    """A row for each part, in the order of the results."""
    rows = []
    for part in dict.fromkeys(result.part for result in results):
        own = [result for result in results if result.part == part]
        training, cpu = (minutes([r.budget for r in own if r.budget], k) for k in ("seconds", "cpu_seconds"))
        evaluation = minutes([r.evaluation for r in own], "seconds")
        row = [part, str(len(own)), training, cpu, evaluation, commits(own), facts(own, "device")]
        rows.append([*row, ", ".join(sorted({r.splits["test"].panel for r in own}))])
    return Table(ORIGIN, COLUMNS, rows)


def sentence(row: Sequence[str]) -> str:
    """A row of that table for a page."""
    _, cells, training, cpu, evaluation, made, processor, panel = row
    took = [f"training their policies took {training} minutes, {cpu} of a CPU"] if training else []
    took += [f"the evaluations took {evaluation} minutes"] if evaluation else []
    commit = "commits" if "," in made else "commit"
    return "; ".join([f"Cells: {cells}", *took, f"{commit} {made}", processor, f"panel of `test` {panel}."])


def minutes(spent: Sequence[dict[str, float]], key: str) -> str:
    """Of all together; empty where one does not say."""
    return f"{sum(one[key] for one in spent) / 60:.0f}" if spent and all(key in one for one in spent) else ""


def commits(own: Sequence[CellResult]) -> str:
    return ", ".join(sorted({commit for result in own if (commit := commit_of(result, DIGITS))}))


def commit_of(result: CellResult, digits: int | None = None) -> str:
    """`+changes` where files differed from it; empty where it is not known."""
    commit = result.facts.get("commit", "")[:digits]
    return f"{commit}+changes" if commit and result.facts.get("dirty") == "True" else commit


def facts(own: Sequence[CellResult], name: str) -> str:
    return ", ".join(sorted({result.facts[name] for result in own if name in result.facts}))
