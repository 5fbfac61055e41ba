"""`lamer-fast warmstart SETTINGS --out FOLDER [--key value ...]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lamer_fast.cli.flags import Command, Target
from lamer_fast.fields import Range
from lamer_fast.files import check_folder
from lamer_fast.say import starting
from lamer_fast.warmstart.settings import WarmstartSettings, resolve, shipped


@dataclass(frozen=True)
class WarmstartOptions:
    out: Path | None = None
    """Folder of the model, written at the end; required, and must be empty or new."""
    num_threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads; 0 leaves torch's own choice."""


COMMAND = Command(
    "warmstart",
    "Make a base model by supervised training on expert trials.",
    WarmstartOptions,
    Target(
        "SETTINGS",
        f"the name of a shipped base model ({', '.join(shipped())}) or a TOML file",
        words=tuple(shipped()),
    ),
    WarmstartSettings,
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    settings = resolve(target, overrides)
    if options.out is None:
        raise ValueError("--out is missing: the folder that the model is written to")
    check_folder("--out", options.out)
    if options.out.exists() and any(options.out.iterdir()):
        raise ValueError(f"--out {options.out} is not empty")
    starting(f"making a base model in {options.out}")

    from lamer_fast.warmstart.supervised import warm_start  # torch from here on

    warm_start(settings, options.out, num_threads=options.num_threads)
    return 0
