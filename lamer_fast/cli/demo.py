"""`make demo`: trains `minesweeper-tiny` from its shipped base model, evaluates before and after, reports."""

from __future__ import annotations

import argparse
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
    return 0


if __name__ == "__main__":
    sys.exit(guarded("demo", lambda: main(sys.argv[1:])))
