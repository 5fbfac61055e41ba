"""`lamer-fast warmstart SETTINGS --out FOLDER [--key value ...]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from lamer_fast.warmstart.settings import WarmstartSettings, resolve


def run(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lamer-fast warmstart",
        description="Make a base model by supervised training on expert trials.",
        epilog="Settings are flags too: " + ", ".join(f"--{f.name}" for f in fields(WarmstartSettings)),
        allow_abbrev=False,
    )
    parser.add_argument("settings", help="a TOML file, or the name of a shipped base model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model, written at the end")
    parser.add_argument("--num-threads", type=int, default=0, help="CPU threads; 0 leaves torch's own choice")
    options, overrides = parser.parse_known_args(list(argv))
    settings = resolve(options.settings, overrides)
    if options.out.exists() and any(options.out.iterdir()):
        raise ValueError(f"--out {options.out} is not empty")

    from lamer_fast.warmstart.supervised import warm_start  # torch from here on

    warm_start(settings, options.out, num_threads=options.num_threads)
    return 0
