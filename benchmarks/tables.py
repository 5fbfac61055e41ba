"""Puts benchmark records into the documentation, so that no figure in it is typed by hand.

    python benchmarks/tables.py docs/performance.md docs/study.md

Between `<!-- table: benchmarks/results/DEVICE/NAME.json -->` and `<!-- end -->` the page gets the table of
that record: a line for each case, our median against the goal, and how many times that of each peer it is.
Between `<!-- cells: STUDY PART -->` and `<!-- end -->` it gets what the cells of that part took, with their
commits; without PART a table of all parts.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from itertools import groupby
from pathlib import Path
from typing import Any

from harness import ROOT, Row, short

MARKERS = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
CELLS = re.compile(r"(<!-- cells: (\S+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 130  # of a line of a page


def table(record: dict[str, Any]) -> str:
    """Markdown of one record, with device, commit and date in its last line."""
    lines = ["| | goal | measured | | ratio to peers |", "|---|---|---|---|---|"]
    rows = [Row(**row) for row in record["rows"]]
    for name, group in groupby(rows, key=title):
        ours, *others = group
        lines.append(line(name, ours, [row for row in others if row.unit == ours.unit]))
        lines += [line(f"{name}: {row.provider.strip()}", row, []) for row in others if is_apart(row, ours)]
    commit, date = record["commit"], record["date"][:10]
    return "\n".join([*lines, "", f"{record['device']}, commit {commit}, {date}."])


def line(name: str, ours: Row, peers: list[Row]) -> str:
    ratios = ", ".join(filter(None, (against(ours, peer) for peer in peers)))
    return f"| {name} | {amount(ours.goal, ours)} | {amount(ours.p50, ours)} | {verdict(ours)} | {ratios} |"


def is_apart(row: Row, ours: Row) -> bool:
    """What a case found beside its first row, against a goal of its own."""
    return row.unit != ours.unit and row.goal is not None


def title(row: Row) -> str:
    """The case; a ratio of two providers is a line of its own."""
    name = str(row.case.get("name") or ", ".join(f"{key} {value}" for key, value in row.case.items()))
    return f"{name}: {row.metric}, {row.provider}" if " / " in row.provider else name


def amount(value: float | None, row: Row) -> str:
    if value is None:
        return ""
    if row.unit == "share":
        return f"{value:.0%}"
    return f"{short(value)}s" if row.unit == "s" else f"{short(value)} {row.unit}"


def verdict(row: Row) -> str:
    if row.p50 is None:
        return row.check
    if row.goal is None:
        return ""
    met = row.p50 >= row.goal if row.higher_is_better else row.p50 <= row.goal
    return "met" if met else f"missed by {abs(row.p50 / row.goal - 1):.0%}"


def against(ours: Row, peer: Row) -> str:
    if not ours.p50 or not peer.p50:
        return ""
    if ours.unit == "x":  # a ratio itself
        return f"{peer.provider} {peer.p50:.2f} x"
    if peer.note.endswith("%"):  # a difference
        return f"{peer.provider} {amount(peer.p50, peer)}, {peer.note}"
    ratio = ours.p50 / peer.p50 if ours.higher_is_better else peer.p50 / ours.p50
    digits = f"{float(f'{ratio:.2g}'):,.0f}" if ratio >= 10 else f"{ratio:.1f}"
    return f"{peer.provider} {digits}x"


def cells(study: str, part: str | None) -> str:
    """What is said on a page of the committed cells of a part, or of all."""
    from lamer_fast.study.origin import origin, sentence
    from lamer_fast.study.read import load
    from lamer_fast.study.stored import read_results

    found = read_results(ROOT / "benchmarks" / "studies" / study, load(study).cells())
    made = origin(list(found.values()))
    if part is None:
        return made.markdown()
    (row,) = (row for row in made.rows if row[0] == part)
    return textwrap.fill(sentence(row), WIDTH, break_on_hyphens=False)


def filled(page: str) -> str:
    """The page with the tables of its records."""
    read = lambda path: json.loads((ROOT / path).read_text())  # noqa: E731
    page = MARKERS.sub(lambda m: f"{m[1]}{table(read(m[2]))}\n{m[3]}", page)
    return CELLS.sub(lambda m: f"{m[1]}{cells(m[2], m[3])}\n{m[4]}", page)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(filled(path.read_text()))
