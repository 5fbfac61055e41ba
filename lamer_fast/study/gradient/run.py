"""Runs the cells of a lab that have no record yet, one after the other, and writes what they show."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lamer_fast.study.gradient.boards import alike
from lamer_fast.study.gradient.estimators import Estimator
from lamer_fast.study.gradient.lab import AnyCell, Cell, Lab, World, arm_settings
from lamer_fast.study.gradient.measure import measure
from lamer_fast.study.gradient.minds import MINDS
from lamer_fast.study.gradient.model_run import run_model
from lamer_fast.study.gradient.models import ModelCell
from lamer_fast.study.gradient.objectives import claimed, success, within
from lamer_fast.study.gradient.policy import Array, chances, climbed, random_policy
from lamer_fast.study.gradient.record import OfArm, Record, missing, path_of, read
from lamer_fast.study.gradient.tree import Tree, every_trial
from lamer_kernels.bench.record import environment

STEP = 0.5  # length of a step up the true gradient


def tree_of(world: World) -> Tree:
    mind, rollout = MINDS[world.mind], world.config.rollout
    boards = alike(world.config.env, mind.actions, world.boards)
    return every_trial(boards, mind, rollout.episodes, rollout.max_turns)


def policy_of(lab: Lab, tree: Tree, steps: int) -> Array:
    return climbed(tree, random_policy(tree, lab.seed, lab.spread), success, steps, STEP)


def run_cells(
    lab: Lab,
    cells: Sequence[AnyCell],
    folder: Path,
    runs: Path,
    *,
    tell: Callable[[str], None] = lambda line: None,
    over: Callable[[], bool] = lambda: False,
) -> None:
    """Measures the arms that are missing; between two cells `over` may say that it is enough. `runs` has the
    models that are trained."""
    trees: dict[str, Tree] = {}
    for place, cell in enumerate(cells):
        path = path_of(folder, cell)
        arms = missing(path, lab.settings(cell), cell)
        if not arms:
            continue
        if over():
            return
        tell(f"{place + 1} of {len(cells)} cells   {cell.name}, {len(arms)} arms")
        if isinstance(cell, ModelCell):
            run_model(cell, arms, runs, path, tell)
            continue
        if cell.world.name not in trees:
            trees = {cell.world.name: tree_of(cell.world)}  # one at a time: they are large
        run_cell(lab, cell, arms, trees[cell.world.name], path)


def run_cell(lab: Lab, cell: Cell, arms: Sequence[Estimator], tree: Tree, path: Path) -> Record:
    started, logits = time.process_time(), policy_of(lab, tree, cell.steps)
    found = measure(
        tree, logits, arms,
        groups=lab.trials // cell.size, size=cell.size, updates=lab.updates, seed=lab.seed + 1,
    )  # fmt: skip
    measured = {}
    for arm in arms:
        parts = {
            part: {against: moments.direction(against) for against in moments.references}
            for part, moments in found[arm.name].items()
        }
        measured[arm.name] = OfArm(arm_settings(arm), claimed(arm.algo, cell.size)[0], parts)
    known, spent = read(path), time.process_time() - started
    env = environment(device="cpu")
    record = Record(
        lab.settings(cell), within(tree, chances(tree, logits)).tolist(),
        {"boards": len(tree.seeds), "trials": tree.num_trials, "parameters": int(np.sum(tree.allowed))},
        measured, spent, {key: str(env[key]) for key in ("commit", "dirty", "device", "date")},
    )  # fmt: skip
    if known is not None:
        record = replace(record, arms=known.arms | measured, cpu_seconds=known.cpu_seconds + spent)
    record.write(path)
    return record
