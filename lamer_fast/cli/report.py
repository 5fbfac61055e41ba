"""`lamer-fast report`: writes the report page of a run, or one that compares several."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamer_fast.cli.flags import Command, Target
from lamer_fast.report.page import write_comparison, write_report
from lamer_fast.report.sample import MAX_TEXT
from lamer_fast.text import printable


@dataclass(frozen=True)
class ReportOptions:
    pass


COMMAND = Command(
    "report",
    "Write the report page of a run, report.html in its folder. With several runs, write comparison.html "
    "beside the first: their curves, tables and differing settings.",
    ReportOptions,
    Target("RUN", "a folder such as runs/minesweeper-tiny, or several"),
)


def run(argv: Sequence[str]) -> int:
    flags = [word for word in argv if word.startswith("-")]
    targets = [word for word in argv if not word.startswith("-")]
    for target in targets or [""]:
        COMMAND.parse([*([target] if target else []), *flags])
    try:
        runs = [Path(target) for target in targets]
        for run in runs:
            if runs.count(run) > 1:
                raise ValueError(f"{run} is named twice; a comparison is of different runs")
        print(write_report(runs[0]) if len(runs) == 1 else write_comparison(runs))
    except (ValueError, KeyError) as e:
        kind = "" if isinstance(e, ValueError) else f"{type(e).__name__}: "  # a ValueError's text says it all
        print(f"lamer-fast report: {kind}{printable(str(e), MAX_TEXT)}", file=sys.stderr)
        return 2
    return 0
