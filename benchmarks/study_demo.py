"""Does the demo learn? Five seeds of LaMer, of its ordinary-RL twin, and of supervised training gone on.

For every seed: train `minesweeper-tiny` (arm lamer) and `minesweeper-tiny-gigpo` (arm gigpo) from the shipped
base model, go on with the warm start of that model for the CPU seconds that LaMer took (arm supervised), and
read split `test` once per arm. Every arm is stored as OUT/ARM-SEED.json; one that is there is not run again:

    python benchmarks/study_demo.py --out build/study --seeds 0 1 2 3 4
    python benchmarks/study_demo.py --out build/study --report             # the table of docs/study.md
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ARMS = ("base", "lamer", "supervised", "gigpo")
REPEATS = 2  # trials, and sets of K attempts, per task of `test`


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=ARMS)
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="print the table of what is there")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        for seed in options.seeds:
            for arm in options.arms:
                run_arm(arm, seed, options)
    print(report(options.out))


def run_arm(arm: str, seed: int, options: argparse.Namespace) -> None:
    target = options.out / f"{arm}-{seed}.json"
    if target.exists():
        return
    import torch

    torch.set_num_threads(options.num_threads)
    started, cpu_started = time.monotonic(), time.process_time()
    config, extra = train_arm(arm, seed, options)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    trials, attempts = play(config, seed, options.split)
    record = {
        "arm": arm,
        "seed": seed,
        "commit": commit(),
        "split": options.split,
        "train_cpu_seconds": round(cpu_seconds, 1),
        "train_seconds": round(seconds, 1),
        **extra,
        "trials": trials.astype(int).tolist(),
        "attempts": attempts.astype(int).tolist(),
    }
    from lamer_fast.files import replace_file
    from lamer_fast.strict_json import json_text

    replace_file(target, json_text(record))
    success = np.logical_or.accumulate(trials, axis=-1).mean(axis=(0, 1)).round(3).tolist()
    print(f"{arm} seed {seed}: success@k {success}, training {cpu_seconds:.0f} CPU s", flush=True)


def train_arm(arm: str, seed: int, options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """(configuration whose model is the trained one, what else to note)."""
    from lamer_fast.cli.eval import run_config
    from lamer_fast.config import resolve as recipe
    from lamer_fast.run import job

    base = recipe.resolve("minesweeper-tiny", ["--train.num-threads", str(options.num_threads)])
    if arm == "base":
        return base, {}
    if arm == "supervised":
        from lamer_fast.warmstart import settings as warmstart_settings
        from lamer_fast.warmstart.supervised import warm_start

        lamer = options.out / f"lamer-{seed}.json"
        if not lamer.exists():
            raise SystemExit(f"arm supervised takes the CPU seconds of {lamer}, which is not there yet")
        budget = json.loads(lamer.read_text())["train_cpu_seconds"]
        folder = options.out / f"supervised-{seed}"
        settings = replace(
            warmstart_settings.resolve("minesweeper-tiny-base"),
            start=base.model.path,
            updates=1_000_000,
            cpu_seconds=budget,
            seed=1000 + seed,  # experts and boards that the base model has not seen
            lr=SUPERVISED_LR,
            warmup_updates=20,
            decay_updates=0,
            eval_every=1_000_000,
        )
        warm_start(settings, folder)
        return replace(base, model=replace(base.model, path=str(folder))), {"lr": SUPERVISED_LR}
    name = "minesweeper-tiny" + ("-gigpo" if arm == "gigpo" else "")
    threads = str(options.num_threads)
    config = recipe.resolve(
        name, ["--train.seed", str(seed), "--name", f"{arm}-{seed}", "--train.num-threads", threads]
    )
    job.run(config, runs=options.out / "runs")
    trained = run_config(options.out / "runs" / config.name).model.path
    return replace(base, model=replace(base.model, path=trained)), {}


SUPERVISED_LR = 3e-4  # success@3 on `valid` after 150 CPU seconds: 42.5 %, with 1e-3 41.8 %


def play(config: Any, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Won episodes of trials and of independent attempts, both [REPEATS, tasks, K], on the same boards."""
    from lamer_fast.envs.registry import eval_seeds
    from lamer_fast.eval.success import play_boards
    from lamer_fast.run.state import build_state

    state = build_state(config)
    boards = eval_seeds(config.env, split, None)
    K = config.rollout.episodes
    attempt = replace(config, rollout=replace(config.rollout, episodes=1, reflect=False))

    def won(config: Any, seeds: np.ndarray, salt: int) -> np.ndarray:
        return play_boards(
            state.sampler, state.agent.renderer, config, seeds, split=split, seed=10_000 * seed + salt
        ).won

    trials = np.stack([won(config, boards, 2 * r) for r in range(REPEATS)])
    attempts = np.stack(
        [won(attempt, np.repeat(boards, K), 2 * r + 1).reshape(-1, K) for r in range(REPEATS)]
    )
    return trials, attempts


def report(out: Path) -> str:
    """Markdown: success@k of trials and attempts per arm and seed, differences paired by task, in points."""
    from lamer_fast.eval.intervals import difference
    from lamer_fast.eval.success import pass_at, success_within

    def points(values: np.ndarray) -> str:
        e = difference(values)
        return f"{100 * e.mean:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"

    lines = [
        "| arm, seed | success@1 | @2 | @3 | attempts @1 | @2 | @3 | gain of trials over attempts | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    at_last: dict[tuple[str, int], np.ndarray] = {}  # success@K of each task, [tasks]
    for arm in ARMS:
        for path in sorted(out.glob(f"{arm}-*.json")):
            record = json.loads(path.read_text())
            trials, attempts = (np.array(record[key], bool) for key in ("trials", "attempts"))
            within = np.mean([success_within(t) for t in trials], axis=0)  # [tasks, K]
            passes = np.mean([pass_at(a) for a in attempts], axis=0)
            at_last[arm, record["seed"]] = within[:, -1]
            gain = points((within[:, -1] - within[:, 0]) - (passes[:, -1] - passes[:, 0]))
            cells = [f"{100 * x:.1f}" for x in (*within.mean(axis=0), *passes.mean(axis=0))]
            name = f"{arm}, {record['seed']}"
            lines.append(f"| {name} | {' | '.join(cells)} | {gain} | {record['train_cpu_seconds']:.0f} |")
    lines += ["", "| seed | " + " | ".join(f"lamer - {arm}" for arm in ARMS if arm != "lamer") + " |"]
    lines.append("|---" * len(ARMS) + "|")
    for seed in sorted({seed for arm, seed in at_last if arm == "lamer"}):
        others = [at_last.get((arm, seed)) for arm in ARMS if arm != "lamer"]
        cells = ["" if x is None else points(at_last["lamer", seed] - x) for x in others]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def commit() -> str:
    return subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
