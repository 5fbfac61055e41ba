"""The command `lamer-fast`: parses and checks everything before torch is imported."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from lamer_fast import recipe
from lamer_fast.rollout.samplers.vllm_env import prepare_for
from lamer_fast.text import printable

# command -> (module with `run(argv) -> exit status`, help); a module is imported only when its command runs
COMMANDS = {
    "train": ("lamer_fast.cli", "train an agent by a recipe, or resume its run"),
    "eval": ("lamer_fast.eval.command", "success@1..K of a run or model on held-out boards"),
    "warmstart": ("lamer_fast.warmstart", "make a base model from expert trials"),
    "play": ("lamer_fast.play", "watch one trial in the terminal, or play it yourself"),
    "report": ("lamer_fast.eval.report", "write the report page of a run"),
    "doctor": ("lamer_fast.doctor", "say what this machine can run, and what is missing"),
}

MAX_ERROR = 4000  # characters; it may quote a file, a model or an environment


def main(argv: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a text of any language on a terminal of any
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        print(f"lamer-fast: no command {command!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        if command == "train":
            return train_main(rest)
        return int(import_module(COMMANDS[command][0]).run(rest) or 0)
    except (ValueError, FileNotFoundError) as error:  # what the user can mend; all else keeps its traceback
        print(f"lamer-fast {command}: {printable(str(error), MAX_ERROR)}", file=sys.stderr)
        return 2


def train_main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lamer-fast train",
        description="Train by a recipe. The same command again resumes the run where its last checkpoint is.",
        epilog="Any setting is a flag, e.g. --algo.gamma-step 0.95; --dry-run prints them all. "
        f"Recipes: {', '.join(recipe.names())}",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", help="a shipped recipe's name, or a TOML file")
    parser.add_argument("--dry-run", action="store_true", help="print settings and estimates, train nothing")
    parser.add_argument("--overwrite", action="store_true", help="discard an earlier run of this name")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    options, overrides = parser.parse_known_args(argv)
    config = recipe.resolve(options.recipe, overrides)
    prepare_for(config)

    from lamer_fast import train  # torch from here on

    if options.dry_run:
        return train.dry_run(config)
    return train.run(config, runs=options.runs, overwrite=options.overwrite)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "usage: lamer-fast COMMAND ...\n\n" + "\n".join(lines) + "\n\nMore: lamer-fast COMMAND --help"


if __name__ == "__main__":
    sys.exit(main())
