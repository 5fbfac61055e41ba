"""`lamer-fast runs`: what the runs of a folder are doing, in a line each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamer_fast.cli.flags import Command, Target
from lamer_fast.files import check_folder
from lamer_fast.run.display_table import GAP, fitting
from lamer_fast.run.listing import RunState, list_runs
from lamer_fast.strict_json import finite, json_text
from lamer_fast.text import duration, one_line, percent

HEADINGS = ("run", "state", "iteration", "success", "held out", "age")
RANKS = (0, 1, 2, 3, 5, 4)  # of two columns the one of higher rank is left out first
MAX_NAME, MAX_NOTE = 40, 200  # characters


@dataclass(frozen=True)
class RunsOptions:
    runs: Path = Path("runs")
    """Folder of the runs."""
    json: bool = False
    """Print a list in JSON with everything, ages in seconds and success as a fraction."""


COMMAND = Command(
    "runs",
    "List the runs of a folder, the latest first. The columns are the state (running, finished, broken, or "
    "stopped, which the same lamer-fast train continues), finished iterations, success@K of the last "
    "iteration's training trials and on held-out boards, if it was evaluated, and the age of these figures.",
    RunsOptions,
    Target("TEXT", "only runs whose name contains this text", ""),
)


def run(argv: Sequence[str]) -> int:
    text, options, _ = COMMAND.parse(argv)
    check_folder("--runs", options.runs)
    if not options.runs.is_dir():
        raise ValueError(f"--runs {options.runs}: no such folder; lamer-fast train makes it")
    found = [run for run in list_runs(options.runs) if text in run.name]
    if options.json:
        print(json_text(finite([run.to_json() for run in found]), indent=1))
    elif found:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(lines(found, width)))
    else:
        print(f"no run in {one_line(str(options.runs))}" + (f" has {text!r} in its name" if text else ""))
    return 0


def lines(runs: Sequence[RunState], width: int | None = None) -> list[str]:
    """Headings and a line per run; at `width` a note is cut and a column left out, a number never cut."""
    table = [HEADINGS, *map(cells, runs)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
    kept = fitting(widths, RANKS, sum(widths) + GAP * len(widths) if width is None else width)
    notes = ["", *(one_line(run.note, MAX_NOTE) for run in runs)]
    shown = []
    for row, note in zip(table, notes, strict=True):
        aligned = [row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in kept]
        line = (" " * GAP).join(aligned).rstrip()
        room = len(note) if width is None else max(0, width - len(line) - 2)
        shown.append(f"{line}  {note[:room]}".rstrip())
    return shown


def cells(run: RunState) -> tuple[str, ...]:
    at = "" if run.episodes is None else f"@{run.episodes} "
    success = ["" if value is None else f"{at}{percent(value)} %" for value in (run.success_at, run.held_out)]
    of = "" if run.iterations is None else f" of {run.iterations}"
    name = one_line(run.name, MAX_NAME) or repr(run.name)
    return (name, run.state, f"{run.iteration}{of}", *success, age(run.age_s))


def age(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days" if seconds >= 2 * 86_400 else duration(seconds)
