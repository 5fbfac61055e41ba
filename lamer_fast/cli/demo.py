"""`lamer-fast demo`: trains a tiny recipe from its base model, evaluates before and after, reports."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lamer_fast.cli.flags import Command, Target
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.fields import Range
from lamer_fast.model.path import model_path
from lamer_fast.samplers.vllm.environment import prepare_for
from lamer_fast.say import starting
from lamer_fast.text import duration

TINY = "-tiny"  # what a game's recipe for a CPU ends with


@dataclass(frozen=True)
class DemoOptions:
    tasks: Annotated[int, Range(2, 1_000_000)] | None = None
    """Number of held-out boards; by default all, up to 2048."""
    runs: Path = Path("runs")
    """Folder of the runs."""


def games() -> list[str]:
    """Those whose base model ships with the package."""
    shipped = [path.parent.name.removesuffix("-base") for path in recipe.RECIPES.glob("*-base/config.json")]
    return sorted(name.removesuffix(TINY) for name in shipped)


COMMAND = Command(
    "demo",
    "Train a small language agent on a CPU in minutes: evaluate its base model, train, evaluate again on the "
    "same boards, write a report. The same command again continues an interrupted demo.",
    DemoOptions,
    Target("GAME|RECIPE", f"{', '.join(games())}, or any recipe", "minesweeper", games()),
    Config,
    dict.fromkeys(("train.processes", "train.max_restarts"), "it runs in one process; take lamer-fast train"),
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    name = target + TINY if target in games() else target
    config = recipe.resolve(name, overrides)
    model_path(config.model.path)
    prepare_for(config)
    starting(f"the demo of {config.name}")

    from lamer_fast.cli.eval import (
        OWN,
        evaluate_policy,
        num_iterations,
        plans_of,
        record_of,
        run_config,
        store,
    )
    from lamer_fast.eval.table import table
    from lamer_fast.report.page import write_report
    from lamer_fast.run import job
    from lamer_fast.run.folder import RunFolder

    RunFolder(config, options.runs, overwrite=False)  # what it refuses is told before anything is played
    started = time.monotonic()
    print("1/3  the base model on boards that training never sees", flush=True)
    before = evaluate_policy(config, plans_of(config, "test", options.tasks, own=True))

    print(f"\n2/3  {config.train.iterations} iterations of LaMer ({options.runs / config.name})", flush=True)
    status = job.run(config, runs=options.runs, overwrite=False)
    folder = options.runs / config.name
    if status != 0 or num_iterations(folder) < config.train.iterations:
        return status  # interrupted: the checkpoint stands, the same command goes on from it

    print("\n3/3  the trained model on the same boards", flush=True)
    trained = run_config(folder)
    after = evaluate_policy(trained, plans_of(trained, "test", options.tasks, own=True))
    store(folder, "before", record_of(config.model.path, config, before, 0))
    store(folder, "after", record_of(str(folder), trained, after, config.train.iterations))
    print("\n" + table({"before": before[OWN], "after": after[OWN]}))
    print(f"\nreport: {write_report(folder)}   ({duration(time.monotonic() - started)} in all)")
    print("\n".join(["next:", *(f"  {line}" for line in next_commands(name, folder))]))
    return 0


def next_commands(recipe_name: str, folder: Path) -> list[str]:
    """Three command lines that go on from the run in `folder`, each with what it does."""
    command = program()
    lines = [
        (f"{command} play {folder} --against", "you and the trained model on one board"),
        (f"{command} train {recipe_name} --name mine --algo.gamma-traj 0.9", "again, with another setting"),
        (f"{command} runs --runs {folder.parent}", "all runs here, and how they do"),
    ]
    width = max(len(line) for line, _ in lines)
    return [f"{line:<{width}}   # {what}" for line, what in lines]


def program() -> str:
    """How `lamer-fast` is called here: by its name, or as it lies beside this interpreter."""
    beside = Path(sys.prefix) / "bin" / "lamer-fast"
    if not beside.exists():
        return "lamer-fast" if shutil.which("lamer-fast") else f"{sys.executable} -m lamer_fast"
    if shutil.which("lamer-fast") == str(beside):
        return "lamer-fast"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


if __name__ == "__main__":
    sys.exit("python -m lamer_fast.cli.demo is now: lamer-fast demo [GAME]")
