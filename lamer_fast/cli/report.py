"""`lamer-fast report`: writes the report page of a run."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamer_fast.cli.flags import Command, Target
from lamer_fast.report.page import MAX_TEXT, write_report
from lamer_fast.text import printable


@dataclass(frozen=True)
class ReportOptions:
    pass


COMMAND = Command(
    "report",
    "Write the report page of a run, report.html in its folder.",
    ReportOptions,
    Target("RUN", "a folder such as runs/minesweeper-tiny"),
)


def run(argv: Sequence[str]) -> int:
    target, _, _ = COMMAND.parse(argv)
    try:
        print(write_report(Path(target)))
    except (OSError, ValueError, KeyError) as e:
        kind = "" if isinstance(e, ValueError) else f"{type(e).__name__}: "  # a ValueError's text says it all
        print(f"lamer-fast report: {kind}{printable(str(e), MAX_TEXT)}", file=sys.stderr)
        return 2
    return 0
