"""Tables of a study: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from lamer_fast.eval.intervals import Estimate
from lamer_fast.study.spec import ATTEMPTS, Study
from lamer_fast.study.summary import Summary

PAPER = "paper (other model and size)"
LATEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#"})


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

    def csv(self) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *self.rows])
        return out.getvalue()

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


def tables_of(study: Study, found: Sequence[Summary]) -> list[Table]:
    """Per part: success by arm, every mode, and what the arms took."""
    tables = []
    for part in study.parts:
        own = [summary for summary in found if summary.part == part]
        if own:
            tables += [success(study, part, own), by_mode(part, own), budgets(part, own)]
    return tables


def success(study: Study, part: str, own: Sequence[Summary]) -> Table:
    K = max(len(summary.within) for summary in own)
    columns = ["arm", "seeds", *(f"success@{k}" for k in range(1, K + 1)), "evaluated by"]
    columns += [f"{study.against} leads by", *([PAPER] if study.published else [])]
    rows = []
    for summary in own:
        row = [summary.arm.name, str(len(summary.seeds)), *map(percent, summary.within)]
        row += [""] * (K - len(summary.within)) + [summary.mode, points(summary.lead)]
        if study.published:
            row.append(" / ".join(f"{x:.1f}" for x in study.published.get(summary.arm.name, ())))
        rows.append(row)
    return Table(f"{part}: test boards won within k episodes, in percent", columns, rows)


def by_mode(part: str, own: Sequence[Summary]) -> Table:
    modes = list(dict.fromkeys(mode for summary in own for mode in summary.last if mode != ATTEMPTS))
    columns = ["arm", *modes, ATTEMPTS]
    rows = [[s.arm.name, *(percent(s.last.get(mode)) for mode in columns[1:])] for s in own]
    return Table(f"{part}: success within the last k, by how the policy is evaluated", columns, rows)


def budgets(part: str, own: Sequence[Summary]) -> Table:
    keys = ("episodes", "tokens_sampled", "tokens_trained", "updates", "seconds", "cpu_seconds")
    rows = []
    for summary in own:
        if summary.arm.train:
            rows.append([summary.arm.name, *(count(summary.spent(key)) for key in keys)])
    return Table(
        f"{part}: what training took, mean over seeds", ["arm", *(k.replace("_", " ") for k in keys)], rows
    )


def percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate.mean:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate.mean:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
