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

    from lamer_fast.cli.eval import evaluate_policy, num_iterations, run_config, store, table
    from lamer_fast.report.page import write_report
    from lamer_fast.run import loop as train

    started = time.monotonic()
    print("1/3  the base model on boards that training never sees", flush=True)
    before = evaluate_policy(config, split="test", tasks=options.tasks)

    print(f"\n2/3  {config.train.iterations} iterations of LaMer ({options.runs / config.name})", flush=True)
    status = train.run(config, runs=options.runs, overwrite=False)
    folder = options.runs / config.name
    if status != 0 or num_iterations(folder) < config.train.iterations:
        return status  # interrupted: the checkpoint stands, the same command goes on from it

    print("\n3/3  the trained model on the same boards", flush=True)
    after = evaluate_policy(run_config(folder), split="test", tasks=options.tasks)
    store(folder, "before", 0, before)
    store(folder, "after", config.train.iterations, after)
    print("\n" + table({"before": before, "after": after}))
    print(f"\nreport: {write_report(folder)}   ({duration(time.monotonic() - started)} in all)")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("demo", lambda: main(sys.argv[1:])))
