"""What the results of a study say: per part and arm, over seeds and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import resolve as recipe
from lamer_fast.eval.bound import bound_of, has_bound
from lamer_fast.eval.intervals import Estimate
from lamer_fast.study.estimates import closed, over_seeds_and_tasks, paired
from lamer_fast.study.result import CellResult
from lamer_fast.study.spec import ATTEMPTS, Arm, Cell, Study


@dataclass(frozen=True)
class Summary:
    """One arm on one part, on split `test`."""

    part: str
    arm: Arm
    results: list[CellResult]  # by seed
    mode: str  # how the arm does best on `valid`
    within: list[Estimate]  # success@1..K in that mode
    last: dict[str, Estimate]  # mode -> success@K
    last_alone: dict[str, Estimate | None]  # mode -> success of episode K where none before had won
    lead: Estimate | None  # success@K of the arm that is compared with, less this one's; None: it is the same
    measures: dict[str, dict[str, Estimate | None]]  # mode -> measure -> mean; None: no board has a value
    regret: list[Estimate] = field(default_factory=list)  # to the bound at 1..K, where the world knows it
    closed: list[Estimate | None] = field(
        default_factory=list
    )  # share of the untrained arm's; None: it has none

    @property
    def seeds(self) -> list[int]:
        return [result.seed for result in self.results]

    def spent(self, key: str) -> float | None:
        values = [result.budget[key] for result in self.results if key in result.budget]
        return float(np.mean(values)) if values else None


def summaries(study: Study, results: Mapping[str, CellResult]) -> list[Summary]:
    """Of the arms that have results, in the order of the study.

    Raises:
        ValueError: two results of a part were evaluated on different boards.
    """
    found: list[Summary] = []
    for part in study.parts:
        by_arm = {arm: of(results, part, arm) for arm in study.arms}
        check_panels(part, [result for of_arm in by_arm.values() for result in of_arm])
        best = {arm: best_mode(of_arm, study.arms[arm]) for arm, of_arm in by_arm.items() if of_arm}
        for arm, of_arm in by_arm.items():
            if not of_arm:
                continue
            values = successes(of_arm, "test", best[arm])
            lead = None
            if arm != study.against and by_arm[study.against]:
                other = successes(by_arm[study.against], "test", best[study.against])
                lead = paired(other[..., -1], values[..., -1])
            within = [share(v) for v in each_k(values)]
            last = {m: share(successes(of_arm, "test", m)[..., -1]) for m in modes(of_arm)}
            alone = {m: after_failures(successes(of_arm, "test", m)) for m in last}
            found.append(
                Summary(part, study.arms[arm], of_arm, best[arm], within, last, alone, lead, measured(of_arm))
            )
    return [with_regret(study, summary, found) for summary in found]


def with_regret(study: Study, summary: Summary, all_: Sequence[Summary]) -> Summary:
    """To the bound on the boards of `test`, which is a property of these boards and kept nowhere."""
    values = successes(summary.results, "test", summary.mode)
    bound = bound_on(study, summary, values.shape[-1])
    if bound is None:
        return summary
    regret = [over_seeds_and_tasks(best - v) for best, v in zip(bound.T, each_k(values), strict=True)]
    untrained = [
        s for s in all_ if s.part == summary.part and not s.arm.train and len(s.within) == len(bound.T)
    ]
    if not untrained or not summary.arm.train:
        return replace(summary, regret=regret)
    base = successes(untrained[0].results, "test", untrained[0].mode)
    parts: list[Estimate | None] = []
    for v, b, best in zip(each_k(values), each_k(base), bound.T, strict=True):
        has_regret = over_seeds_and_tasks(best - b).low > 0  # else a share of it is noise
        parts.append(closed(v, b, best) if has_regret else None)
    return replace(summary, regret=regret, closed=parts)


def bound_on(study: Study, summary: Summary, episodes: int) -> NDArray[np.float64] | None:
    """[tasks, episodes] of the panel that was played. Raises ValueError where it is another one now."""
    cell = next(c for c in study.cells() if (c.part, c.arm.name) == (summary.part, summary.arm.name))
    config = recipe.apply(cell.evaluated, {"eval.episodes": episodes})
    if not has_bound(config):
        return None
    played, kept = cell.boards(config.env, "test"), summary.results[0]
    if played.digest != kept.splits["test"].panel:
        raise ValueError(f"{summary.part}: panel {kept.splits['test'].panel} was played, now {played.digest}")
    return bound_of(config, played)


def of(results: Mapping[str, CellResult], part: str, arm: str) -> list[CellResult]:
    own = [result for result in results.values() if result.part == part and result.arm == arm]
    return sorted(own, key=lambda result: result.seed)


def measured(results: Sequence[CellResult]) -> dict[str, dict[str, Estimate | None]]:
    found: dict[str, dict[str, Estimate | None]] = {}
    for mode, names in results[0].splits["test"].measures.items():
        found[mode] = {}
        for name in names:
            values = np.stack([result.splits["test"].measured(mode, name) for result in results])
            there = not np.isnan(values).all(axis=1).any()
            found[mode][name] = over_seeds_and_tasks(values) if there else None
    return found


def share(values: NDArray[np.float64], weights: NDArray[np.float64] | float = 1.0) -> Estimate:
    """Of values from 0 to 1; the spread of few seeds can leave that range, a share cannot."""
    found = over_seeds_and_tasks(values, weights)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def after_failures(values: NDArray[np.float64]) -> Estimate | None:
    """Of success@1..K [seeds, tasks, K], that of episode K where none before had won.

    Of independent attempts, whose success@k is a mean over which of them came first, a board counts by how
    often none of K - 1 had won.

    None: K is 1, or in one seed every trial had won.
    """
    if values.shape[-1] == 1:
        return None
    lost, won = 1 - values[..., -2], values[..., -1] - values[..., -2]
    if not lost.any(axis=1).all():
        return None
    return share(np.divide(won, lost, out=np.zeros_like(won), where=lost > 0), weights=lost)


def modes(results: Sequence[CellResult]) -> list[str]:
    """Those that every result has; independent attempts last."""
    first = list(results[0].splits["test"].modes)
    common = [mode for mode in first if all(mode in r.splits["test"].modes for r in results)]
    return sorted(common, key=lambda mode: mode == ATTEMPTS)


def best_mode(results: Sequence[CellResult], arm: Arm) -> str:
    """The way to use the arm's policies that wins most boards of `valid` within K; of equals the first.

    An arm that names its modes is evaluated by those alone.
    """
    allowed = [mode for mode in modes(results) if arm.modes is None or mode in arm.modes]
    return max(allowed, key=lambda mode: successes(results, "valid", mode)[..., -1].mean())


def successes(results: Sequence[CellResult], split: str, mode: str) -> NDArray[np.float64]:
    """[seeds, tasks, K]"""
    return np.stack([result.splits[split].success(mode) for result in results])


def each_k(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [values[..., k] for k in range(values.shape[-1])]


def check_boards(results: Mapping[str, CellResult], waiting: Sequence[Cell]) -> None:
    """Raises ValueError where cells that wait would play other boards than the finished ones of a part."""
    for part, cell in {cell.part: cell for cell in waiting}.items():
        for split in ("valid", "test") if any(r.part == part for r in results.values()) else ():
            now = cell.boards(cell.evaluated.env, split).digest
            for name, result in results.items():
                if result.part == part and result.splits[split].panel != now:
                    raise ValueError(
                        f"cell {name} played panel {result.splits[split].panel} of {split}, now it is {now}: "
                        "other boards, of another version. Move its file away to play it again"
                    )


def check_panels(part: str, results: Sequence[CellResult]) -> None:
    for split in ("valid", "test"):
        panels = {result.splits[split].panel: result for result in results}
        if len(panels) > 1:
            (one, a), (two, b), *_ = panels.items()
            raise ValueError(
                f"{part}, {split}: {a.arm}, seed {a.seed}, played panel {one}, {b.arm}, seed {b.seed}, {two}"
            )
