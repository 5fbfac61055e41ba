"""`make demo`: trains a tiny recipe from its shipped base model, evaluates before and after, reports."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from lamer_fast.cli import guarded
from lamer_fast.config import resolve as recipe
from lamer_fast.samplers.vllm.environment import prepare_for
from lamer_fast.text import duration


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m lamer_fast.cli.demo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--recipe", default="minesweeper-tiny")
    parser.add_argument("--tasks", type=int, default=None, help="held-out boards; default all, at most 2048")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options, overrides = parser.parse_known_args(argv)
    config = recipe.resolve(options.recipe, overrides)
    prepare_for(config)

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
    from lamer_fast.run import loop as train

    started = time.monotonic()
    print("1/3  the base model on boards that training never sees", flush=True)
    before = evaluate_policy(config, plans_of(config, "test", options.tasks, own=True))

    print(f"\n2/3  {config.train.iterations} iterations of LaMer ({options.runs / config.name})", flush=True)
    status = train.run(config, runs=options.runs, overwrite=False)
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
    print("\n".join(["next:", *(f"  {line}" for line in next_commands(options.recipe, folder))]))
    return 0


def next_commands(recipe_name: str, folder: Path) -> list[str]:
    """Three command lines that go on from the run in `folder`, each with what it does."""
    command = program()
    lines = [
        (f"{command} play {folder} --against", "you and the trained model on one board"),
        (f"{command} train {recipe_name} --name mine --algo.gamma-traj 0.9", "again, with another setting"),
        (f"{command} runs --runs {folder.parent}", "what there is now, and how it does"),
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
    sys.exit(guarded("demo", lambda: main(sys.argv[1:])))
