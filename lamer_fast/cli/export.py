"""`lamer-fast export`: recorded trials as files that another program's viewer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lamer_fast.cli.flags import Command, Target
from lamer_fast.files import check_folder
from lamer_fast.report.inspect_log import write_logs


@dataclass(frozen=True)
class ExportOptions:
    to: Literal["inspect"] = "inspect"
    """Format: logs of Inspect, one per iteration, for `inspect view`."""
    out: Path = Path("logs")
    """Folder of the logs, made if it is missing; `inspect view` reads the same one by default."""


COMMAND = Command(
    "export",
    "Write the recorded trials of a run or an evaluation for another program's viewer: messages, rewards, "
    "advantages, log-probabilities of tokens. The run itself does not change.",
    ExportOptions,
    Target("RUN|FILE", "a run folder, the --out folder of an evaluation, or a file of trials"),
)


def run(argv: Sequence[str]) -> int:
    target, options, _ = COMMAND.parse(argv)
    source = Path(target)
    if not source.exists():
        raise ValueError(f"{target}: no such file or folder")
    check_folder("--out", options.out)
    written = write_logs(source, options.out)
    print(f"{len(written)} {'log' if len(written) == 1 else 'logs'} in {options.out}")
    print(f"next: pip install inspect-ai && inspect view --log-dir {options.out}")
    return 0
