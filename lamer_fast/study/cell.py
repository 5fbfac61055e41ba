"""Runs one cell in this process: training (or what is left of it), then its evaluations.

    python -m lamer_fast.study.cell STUDY:CELL --out FILE --runs FOLDER [--quick] [--model MODEL]
        [--settings DIGEST]

Stopped in the middle it goes on from the last checkpoint when it is started again. Exit status 0: the result
is written; 3: stopped before that.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.report.page import write_report
from lamer_fast.say import printed
from lamer_fast.study.cpu_time import counted
from lamer_fast.study.measures import Values
from lamer_fast.study.read import load
from lamer_fast.study.result import CellResult, Played, curve_of, digits_of
from lamer_fast.study.reuse import check_own_run, is_finished, run_of
from lamer_fast.study.spec import ATTEMPTS, Cell, Mode, Study, digest
from lamer_kernels.bench.record import environment

if TYPE_CHECKING:
    from lamer_fast.eval.success import Evaluation

STOPPED = 3
SPLITS = ("valid", "test")
ALONE = Mode(ATTEMPTS + " alone", "", {})


def end_with_parent() -> None:
    """Asks this process to stop after its iteration when the study that started it is killed.

    SIGINT is how a study speaks to its cells; one in the background of a script would have them ignore it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell", help="STUDY:CELL, as main:sokoban-lamer-0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", default="")
    parser.add_argument("--settings", default="", help="that the cell had when the study began")
    options = parser.parse_args()
    end_with_parent()
    source, _, name = options.cell.rpartition(":")
    study = load(source, options.model)
    if options.quick:
        study = study.quick()
    cell = next((cell for cell in study.cells() if cell.name == name), None)
    if cell is None or options.settings not in ("", digest(cell.settings())):
        what = "has other settings" if cell else "is no more"
        raise ValueError(
            f"study {source} was changed since the command began: cell {name} {what}. Start it again"
        )
    return 0 if run_cell(study, cell, options.out, options.runs) else STOPPED


def run_cell(study: Study, cell: Cell, out: Path, runs: Path) -> bool:
    """Trains and evaluates in this process, and writes the result. False: stopped before that."""
    check_own_run(cell, runs)
    config, run = cell.evaluated, run_of(cell, runs)
    budget, curve, folder = {}, {}, ""
    if cell.arm.train:
        if not is_finished(run, cell.config) and not train(cell.config, run):
            return False
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").open()]
        budget, curve, folder = budget_of(cell.config, metrics, run), curve_of(metrics), str(run)
        config = replace(config, model=replace(config.model, path=f"{folder}/model"))
        if not (run / "report.html").exists():
            write_report(run)
    shown = runs / f"{cell.config.name}.test"
    since = time.perf_counter(), time.process_time()
    splits = {split: play(config, cell, split, shown if split == "test" else None) for split in SPLITS}
    now = time.perf_counter(), time.process_time()
    evaluation = {k: round(b - a, 1) for k, a, b in zip(("seconds", "cpu_seconds"), since, now, strict=True)}
    notes = notes_of_training(run, cell.config) if cell.arm.train and "notes" in cell.measures else {}
    env = environment(device="cpu" if config.train.device == "cpu" else None)
    facts = {key: str(env[key]) for key in ("device", "commit", "dirty", "date")}
    facts |= {name: version for name, version in env["versions"].items() if name in ("python", "torch")}
    found = CellResult(
        study.name, cell.part, cell.arm.name, cell.seed, cell.settings(), splits,
        budget, evaluation, curve, notes, facts, folder, str(shown),
    )  # fmt: skip
    found.write(out)
    return True


def train(config: Config, run: Path) -> bool:
    """Whether all iterations are done; the CPU seconds of this process are added to those of earlier ones."""
    from lamer_fast.run import job

    with counted(run / "cpu_seconds"):
        job.run(config, runs=run.parent)
    return is_finished(run, config)


def budget_of(config: Config, metrics: Sequence[dict[str, Any]], run: Path) -> dict[str, float]:
    r = config.rollout
    trials = r.trials_per_group * sum(int(m.get("groups_played", r.groups)) for m in metrics)
    spent = run / "cpu_seconds"  # `lamer-fast train` leaves none
    cpu = {"cpu_seconds": float(spent.read_text())} if spent.exists() else {}
    return cpu | {
        "trials": trials,
        "episodes": trials * r.episodes,
        "tokens_sampled": sum(m["tokens"]["sampled"] for m in metrics),
        "tokens_trained": sum(m["tokens"]["trained"] for m in metrics),
        "updates": sum(m["counters"]["updates"] for m in metrics),
        "seconds": round(
            sum(m["seconds"].get("sample", 0) + m["seconds"].get("learn", 0) for m in metrics), 1
        ),
    }


def notes_of_training(run: Path, config: Config) -> dict[str, list[Any]]:
    """What became of the reflections, from the trials that the run recorded."""
    from lamer_fast.study.measures import of_training
    from lamer_fast.trials import trial_files, trials_of

    if not (run / "trials").is_dir() or config.train.curriculum:  # whose boards are of several kinds
        return {}
    by_iteration = {int(file.name.split(".")[0]): list(trials_of(file)) for file in trial_files(run)}
    return of_training(by_iteration, config.env)


def play(config: Config, cell: Cell, split: str, shown: Path | None = None) -> Played:
    """Every mode on the boards of a split; independent attempts beside the first, measures on `test`.

    Some of what was played is written to `shown`, where it is given.
    """
    from lamer_fast.eval.success import evaluate
    from lamer_fast.run.display import Progress
    from lamer_fast.study.measures import measured
    from lamer_fast.study.players import Players, entropy_of_plans
    from lamer_fast.study.shown import write_trials

    played = cell.boards(config.env, split)
    players = Players(config, cell.evaluated)
    measures = cell.measures if split == "test" else ()
    modes: dict[str, str] = {}
    values: dict[str, Values] = {}
    evaluations: dict[str, Evaluation] = {}
    transcripts: dict[str, list[dict[str, Any]]] = {}
    for i, mode in enumerate(cell.modes or [ALONE]):
        seed, asked = 10_000 * (cell.seed + 1) + 10 * i, recipe.apply(config, mode.settings)
        trials = transcripts[mode.name] = []
        found = evaluations[mode.name] = evaluate(
            players.sampler(mode), players.renderer, asked, split=split, tasks=len(played), seed=seed,
            attempts=i == 0, played=played, progress=Progress(f"of {split}, {mode.name}"),
            keep=trials.extend if measures or shown else None,
        )  # fmt: skip
        modes |= {key or mode.name: digits for key, digits in digits_of(found).items()}
        if measures:
            values[mode.name] = measured(measures, trials, asked.env, split)
        if "exploration" in measures:
            entropies = entropy_of_plans(players, asked, mode, played.seeds, split, seed + 5)
            values[mode.name]["plan_entropy"] = entropies
    if shown:
        write_trials(shown, cell.name, config, evaluations, transcripts)
    if not cell.modes:
        del modes[ALONE.name]
    return Played(played.digest, found.episodes, modes, values)


if __name__ == "__main__":
    try:
        with printed():
            status = main()
        sys.exit(status)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
