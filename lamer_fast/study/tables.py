"""Tables of a study: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamer_fast.eval.intervals import Estimate
from lamer_fast.files import replace_file
from lamer_fast.study.measures import KINDS
from lamer_fast.study.spec import ATTEMPTS, Study
from lamer_fast.study.summary import Summary

PAPER = "paper (other model and size)"
ENDS = 5  # iterations
LATEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#"})
LONG = ["table", "row", "column", "value", "low", "high", "text"]
NUMBER = r"[-+]?[\d,]*\.?\d+"
SHOWN = re.compile(rf"({NUMBER})(?: %)?(?: ± {NUMBER})?(?: \[({NUMBER}), ({NUMBER})\])?")


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]
    keys: int = 1  # first columns, which together name a row

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

    def long(self) -> list[list[str]]:
        """A row of `LONG` for each cell: the columns of one CSV of all tables."""
        return [
            [self.title, " ".join(cells[: self.keys]), column, *value_and_interval(cell), cell]
            for cells in self.rows
            for column, cell in zip(self.columns[self.keys :], cells[self.keys :], strict=True)
        ]

    def latex(self) -> str:
        """A `tabular`; needs no package."""
        body = [" & ".join(cell.translate(LATEX) for cell in cells) + r" \\" for cells in self.rows]
        head = " & ".join(cell.translate(LATEX) for cell in self.columns) + r" \\"
        align = "l" * 2 + "r" * (len(self.columns) - 2)
        lines = [
            rf"\begin{{tabular}}{{{align}}}",
            r"\hline",
            head,
            r"\hline",
            *body,
            r"\hline",
            r"\end{tabular}",
        ]
        return "\n".join(lines)


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """tables.md and .tex, a table after the other; tables.csv, with a line for each of their cells."""
    for ending, text in (
        ("md", [f"{table.title}\n\n{table.markdown()}\n" for table in tables]),
        ("tex", [f"% {table.title}\n{table.latex()}\n" for table in tables]),
    ):
        replace_file(folder / f"tables.{ending}", "\n".join(text))
    long = io.StringIO()
    csv.writer(long, lineterminator="\n").writerows(
        [LONG, *(row for table in tables for row in table.long())]
    )
    replace_file(folder / "tables.csv", long.getvalue())


def tables_of(study: Study, found: Sequence[Summary]) -> list[Table]:
    """Per part: success by arm, every mode, and what the arms took."""
    tables = []
    for part in study.parts:
        own = [summary for summary in found if summary.part == part]
        if own:
            tables += [success(study, part, own)]
            tables += [regrets(part, own)] if any(s.regret for s in own) else []
            tables += [by_mode(part, own)]
            tables += [after_failures(part, own)] if any(len(s.within) > 1 for s in own) else []
            tables += [budgets(part, own)]
            tables += [measures(kind, part, own) for kind in study.measures]
            tables += [notes(part, own)] if any(r.notes for s in own for r in s.results) else []
    return tables


def success(study: Study, part: str, own: Sequence[Summary]) -> Table:
    K, published = max(len(summary.within) for summary in own), study.parts[part].published
    columns = ["arm", "seeds", *(f"success@{k}" for k in range(1, K + 1)), "evaluated by"]
    columns += [f"{study.against} leads by", *([PAPER] if published else [])]
    rows = []
    for summary in own:
        row = [summary.arm.name, str(len(summary.seeds)), *map(percent, summary.within)]
        row += [""] * (K - len(summary.within)) + [summary.mode, points(summary.lead)]
        if published:
            row.append(" / ".join(map(of_paper, published.get(summary.arm.name, ()))))
        rows.append(row)
    return Table(f"{part}: test boards won within k episodes, in percent", columns, rows)


def regrets(part: str, own: Sequence[Summary]) -> Table:
    K = max(len(summary.regret) for summary in own)
    columns = ["arm", "seeds", *(f"regret@{k}" for k in range(1, K + 1))]
    columns += [f"closed@{k}" for k in range(1, K + 1)]
    rows = []
    for s in own:
        halves = [[percent(x) for x in half] + [""] * (K - len(half)) for half in (s.regret, s.closed)]
        rows.append([s.arm.name, str(len(s.seeds)), *halves[0], *halves[1]])
    title = (
        f"{part}: regret to the best explorer, in points, and how much of the base's is closed, in percent"
    )
    return Table(title, columns, rows)


def by_mode(part: str, own: Sequence[Summary]) -> Table:
    modes = list(dict.fromkeys(mode for summary in own for mode in summary.last if mode != ATTEMPTS))
    columns = ["arm", *modes, ATTEMPTS]
    rows = [[s.arm.name, *(percent(s.last.get(mode)) for mode in columns[1:])] for s in own]
    return Table(f"{part}: success within all episodes, by how the policy is evaluated", columns, rows)


def after_failures(part: str, own: Sequence[Summary]) -> Table:
    """What the last player makes of what was found out before, without what was won before; the last of
    as many independent attempts is the control."""
    known = dict.fromkeys(mode for summary in own for mode in summary.last_alone)
    modes = sorted(known, key=lambda mode: mode == ATTEMPTS)
    rows = [[s.arm.name, *(percent(s.last_alone.get(mode)) for mode in modes)] for s in own]
    return Table(f"{part}: success of the last episode where none before had won", ["arm", *modes], rows)


def budgets(part: str, own: Sequence[Summary]) -> Table:
    keys = ("episodes", "tokens_sampled", "tokens_trained", "updates", "seconds", "cpu_seconds")
    rows = []
    for summary in own:
        if summary.arm.train:
            rows.append([summary.arm.name, *(count(summary.spent(key)) for key in keys)])
    return Table(
        f"{part}: what training took, mean over seeds", ["arm", *(k.replace("_", " ") for k in keys)], rows
    )


def measures(kind: str, part: str, own: Sequence[Summary]) -> Table:
    """A row for each arm and mode; shares are shares, not percent."""
    rows = [
        [summary.arm.name, mode, *(number(values.get(name)) for name in KINDS[kind])]
        for summary in own
        for mode, values in summary.measures.items()
    ]
    return Table(f"{part}: {kind} on the test boards", ["arm", "mode", *KINDS[kind]], rows, keys=2)


def notes(part: str, own: Sequence[Summary]) -> Table:
    """What became of reflections over training, of the first and the last iterations."""
    names = ("note_words", "note_new", "note_true")
    columns = ["arm", *(f"{name}, {when}" for name in names for when in ("first", "last"))]
    rows = []
    for summary in own:
        curves = [result.notes for result in summary.results if result.notes]
        if curves:
            ends = [end_of(curves, name, end) for name in names for end in (slice(ENDS), slice(-ENDS, None))]
            rows.append([summary.arm.name, *ends])
    return Table(f"{part}: reflections over training, first and last {ENDS} iterations", columns, rows)


def end_of(curves: Sequence[Mapping[str, list[Any]]], name: str, end: slice) -> str:
    values = [value for curve in curves for value in curve[name][end] if value is not None]
    return f"{np.mean(values):.2f}" if values else ""


def value_and_interval(shown: str) -> list[str]:
    """Of a cell as it is shown, without signs and commas; empty where it has none."""
    found = SHOWN.fullmatch(shown)
    return [(x or "").replace(",", "").lstrip("+") for x in (found.groups() if found else ("", "", ""))]


def percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate.mean:z.1f} [{100 * estimate.low:z.1f}, {100 * estimate.high:z.1f}]"


def of_paper(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.1f}"


def points(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate.mean:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def number(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
