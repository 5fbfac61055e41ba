"""Measures a language model's cell: trials, branches, advantages and gradients, board after board."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import make_env
from lamer_fast.model.path import model_path
from lamer_fast.rng import sampling_seed
from lamer_fast.rollout.boards import draw_boards
from lamer_fast.run.state import TrainState, build_state
from lamer_fast.study.gradient.agreement import of_advantages, of_gradients
from lamer_fast.study.gradient.branched import Branched, Players, branch, branched, play
from lamer_fast.study.gradient.estimators import Estimator
from lamer_fast.study.gradient.judged import partners, said, true_advantages
from lamer_fast.study.gradient.lab import arm_settings
from lamer_fast.study.gradient.measure import CLAIM, SUCCESS, WHOLE
from lamer_fast.study.gradient.models import WEIGHTS, ModelCell
from lamer_fast.study.gradient.moments import Direction
from lamer_fast.study.gradient.objectives import claimed, success
from lamer_fast.study.gradient.policy import Array, Objective
from lamer_fast.study.gradient.record import OfArm, Record, read
from lamer_fast.study.gradient.scores import Sketch
from lamer_kernels.bench.record import environment

AT_A_TIME = 512  # branches that are played together
BOARDS = 4  # that have about as many turns
MOST_TURNS = 1_000_000  # of a board, all trials together


def config_of(cell: ModelCell, runs: Path) -> Config:
    """Of the run that plays the cell's boards."""
    model = cell.model
    path = model.path(runs)
    train = replace(model.config.train, seed=cell.seed, num_threads=1)
    rollout = replace(model.config.rollout, groups=model.boards)
    return replace(recipe.apply(model.config, {"model.path": path}), train=train, rollout=rollout)


class Measured:
    """All boards of a cell; every arm is measured on the same trials and branches."""

    def __init__(self, cell: ModelCell, state: TrainState) -> None:
        self.cell, self.temperature = cell, state.config.rollout.temperature
        self.sketch, self.drawn = Sketch(state.policy), draw_boards(state.config, 0)
        env = make_env(state.config.env, AT_A_TIME, split="train")
        self.players = Players(state.sampler, env, state.agent, state.config.rollout)
        self.boards: list[Branched] = []
        self.scores: list[NDArray[np.float32]] = []  # of each board [N, D]

    def add_boards(self, count: int) -> None:
        """Plays and branches the next ones; what is drawn on a board is a function of its number alone."""
        seed, branches, first = self.cell.seed, self.cell.model.branches, len(self.boards)
        played = [
            play(self.players, self.drawn.of([b]), sampling_seed(seed, 0))
            for b in range(first, first + count)
        ]
        places = [[place for of_trial in own for place in of_trial] for _, own in played]
        numbers = [(first + i) * MOST_TURNS + np.arange(len(own)) for i, own in enumerate(places)]
        every = [place for own in places for place in own]
        ways = branch(self.players, every, branches, sampling_seed(seed, 1), np.concatenate(numbers))
        start = 0
        for (trials, _), own in zip(played, places, strict=True):
            self.boards.append(branched(trials, ways.of(start, len(own) * branches), branches))
            self.scores.append(self.sketch.scores(trials, self.temperature))
            start += len(own) * branches

    def arm(self, arm: Estimator) -> OfArm:
        name, objective = claimed(arm.algo, self.cell.size)
        mean, as_played = self._said(arm)
        gradients: dict[str, Mapping[str, Direction]] = {}
        turns: dict[str, Mapping[str, Direction]] = {}
        for part in [WHOLE, *self.boards[0].parts]:
            found, values = {}, {}
            for against, goal in ((CLAIM, objective), (SUCCESS, success)):
                true = self.true(goal)
                of = [self.part(x, part) for x in (mean, as_played, true)]
                values[against] = of_advantages(*of)
                found[against] = of_gradients(*(self._gradients(x) for x in of))
            gradients[part], turns[part] = found, values
        return OfArm(arm_settings(arm), name, gradients, turns)

    def true(self, objective: Objective) -> list[Array]:
        """Of each board [N, 2]."""
        return [true_advantages(board, objective)[0] for board in self.boards]

    def part(self, values: Sequence[Array], part: str) -> list[Array]:
        """Of the turns of a part; 0 elsewhere."""
        if part == WHOLE:
            return list(values)
        none = [np.zeros(len(board.place), bool) for board in self.boards]
        masks = [board.parts.get(part, no) for board, no in zip(self.boards, none, strict=True)]
        return [np.where(m[:, None] if x.ndim > 1 else m, x, 0.0) for x, m in zip(values, masks, strict=True)]

    def truth(self) -> dict[str, float]:
        """Of the turns' true advantages for success@K: their spread, and the error of one by Monte Carlo."""
        found = [true_advantages(board, success) for board in self.boards]
        products = np.concatenate([halves.prod(axis=1) for halves, _ in found])
        errors = np.concatenate([error for _, error in found])
        return {"spread": float(max(products.mean(), 0) ** 0.5), "error": float((errors**2).mean() ** 0.5)}

    def within(self) -> list[float]:
        """success@1..K, by the branches from the start."""
        won = [np.logical_or.accumulate(b.table.success_by_episode, axis=1) for b in self.boards]
        starts = [board.before[board.place == 0].ravel() for board in self.boards]
        of_board = [w[own].mean(axis=0) for w, own in zip(won, starts, strict=True)]
        return [float(share) for share in np.mean(of_board, axis=0)]

    def counts(self) -> dict[str, int]:
        turns = sum(len(board.place) for board in self.boards)
        trials = self.cell.size * len(self.boards)
        branches = sum(board.before.size for board in self.boards)
        return {
            "boards": len(self.boards), "trials": trials, "turns": turns, "branches": branches,
            "parameters": self.sketch.count,
        }  # fmt: skip

    def _said(self, arm: Estimator) -> tuple[list[Array], list[Array]]:
        rests = [
            partners(board, np.random.default_rng([self.cell.seed, b])) for b, board in enumerate(self.boards)
        ]
        found = [said(board, arm, rest) for board, rest in zip(self.boards, rests, strict=True)]
        return [mean for mean, _ in found], [as_played for _, as_played in found]

    def _gradients(self, values: Sequence[Array]) -> Array:
        """[B, D] of turns' advantages, [2, B, D] of their halves; the mean over trials of each board."""
        sums = [x.T.astype(np.float32) @ scores for x, scores in zip(values, self.scores, strict=True)]
        return np.stack(sums, axis=-2).astype(np.float64) / self.cell.size


def run_model(
    cell: ModelCell, arms: Sequence[Estimator], runs: Path, path: Path, tell: Callable[[str], None]
) -> Record:
    started, config = time.process_time(), config_of(cell, runs)
    measured = Measured(cell, build_state(config))
    for done in range(0, cell.model.boards, BOARDS):
        tell(f"{cell.name}, {done} of {cell.model.boards} boards")
        measured.add_boards(min(BOARDS, cell.model.boards - done))
    found = {arm.name: measured.arm(arm) for arm in arms}
    known, spent, env = read(path), time.process_time() - started, environment(device="cpu")
    facts = {key: str(env[key]) for key in ("commit", "dirty", "device", "date")} | {
        "weights": digest(config)
    }
    record = Record(
        cell.settings(), measured.within(), measured.counts(), found, spent, facts, measured.truth()
    )
    if known is not None:
        record = replace(record, arms=known.arms | found, cpu_seconds=known.cpu_seconds + spent)
    record.write(path)
    return record


def digest(config: Config) -> str:
    """Of the weights that are measured."""
    return hashlib.sha256((Path(model_path(config.model.path)[0]) / WEIGHTS).read_bytes()).hexdigest()[:16]
