"""What the trainings of a study will take, before any of them starts: the table of `study --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamer_fast.cost.estimate import Plan, estimate
from lamer_fast.device import GIB
from lamer_fast.study.spec import Cell, training_of
from lamer_fast.study.tables import Table

HOUR = 3600.0


def needs(cells: Sequence[Cell], gpu_gib: float | None = None) -> Table:
    """A row for each training, its seeds together; upper bounds, as those of `lamer-fast train --dry-run`.

    Args:
        gpu_gib: memory of a GPU that need not be here; hours are then left out.

    Raises:
        ValueError: a model's files are not there; names it.
    """
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.arm.train:
            config = replace(cell.config, train=replace(cell.config.train, seed=0))
            alike.setdefault(training_of(config), []).append(cell)
    rows = []
    for same in alike.values():
        plan = estimate(same[0].config, gpu_bytes=None if gpu_gib is None else round(gpu_gib * GIB))
        rows.append(row(same, plan))
    columns = ["training", "runs", "model", "parameters", "longest sequence", "memory, GiB", "fits"]
    columns += ["hours of a run at most", "hours of all"]
    return Table("what training takes", columns, rows)


def row(same: Sequence[Cell], plan: Plan) -> list[str]:
    config, memory = same[0].config, plan.memory
    what, longest = f"{same[0].part}-{same[0].arm.name}", f"{plan.bounds.sequence:,} tokens"
    hours = sum(plan.seconds.values()) * config.train.iterations / HOUR
    fits = "yes" if memory.fits else "no"
    if plan.proposal:
        fits = f"with {' '.join(plan.proposal.flags)}"
    return [
        what, str(len(same)), config.model.path, f"{plan.num_parameters:,}", longest,
        f"{memory.total() / GIB:.1f} of {memory.available / GIB:.1f}", fits,
        *([f"{hours:.2f}", f"{hours * len(same):.1f}"] if plan.seconds else ["", ""]),
    ]  # fmt: skip
