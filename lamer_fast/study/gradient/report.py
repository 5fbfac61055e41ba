"""Tables and figures of a lab."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamer_fast.study.figures import pyplot_of, save
from lamer_fast.study.gradient.cells import known, told, with_error
from lamer_fast.study.gradient.lab import Cell, Lab
from lamer_fast.study.gradient.measure import CLAIM, SUCCESS, WHOLE
from lamer_fast.study.gradient.model_report import of_model
from lamer_fast.study.gradient.record import OfArm, Record
from lamer_fast.study.tables import Table

PARTS = {"blank": "plays, nothing known", "notes": "notes", "informed": "plays, something known"}
Found = Mapping[str, Record]  # name of a cell -> its record


def tables_of(lab: Lab, found: Found) -> list[Table]:
    tables = []
    for cell in lab.cells():
        record = found.get(cell.name)
        if record is not None and cell.size == lab.sizes[0]:
            tables.append(directions(cell, record))
    tables += [by_size(lab, world.name, found) for world in lab.worlds]
    tables += [of_model(cell, found[cell.name]) for cell in lab.model_cells() if cell.name in found]
    return [table for table in tables if table.rows]


def directions(cell: Cell, record: Record) -> Table:
    """Every arm of a cell, and of its cosine to success@K where in the policy it comes from."""
    own = [part for part in PARTS if part in next(iter(record.arms.values())).parts]
    columns = ["arm", "claims to climb", "cosine to that", "scale", "cosine to success@K", "bias", "variance"]
    columns += ["one update", *(PARTS[part] for part in own)]
    rows = []
    for arm in cell.arms:
        of_arm = record.arms.get(arm.name)
        if of_arm is None:
            continue
        claim, goal = of_arm.parts[WHOLE][CLAIM], of_arm.parts[WHOLE][SUCCESS]
        rows.append(
            [
                arm.name, of_arm.claims, with_error(claim.cosine, claim.cosine_error), f"{claim.scale:.2f}",
                with_error(goal.cosine, goal.cosine_error), known(100 * goal.bias, ".0f", " %"),
                known(goal.noise, ".1f"), f"{goal.one:.3f}",
                *(with_error(p.cosine, p.cosine_error, 2) for p in (of_arm.parts[k][SUCCESS] for k in own)),
            ]
        )  # fmt: skip
    shown = " / ".join(f"{100 * p:.0f}" for p in record.within)
    title = f"{cell.world.name}, {cell.policy} policy (success@1..K {shown} %), groups of {cell.size}"
    return told(Table(title, columns, rows))


def by_size(lab: Lab, world: str, found: Found) -> Table:
    """Cosine to success@K of the mean and of one update, by trials of a group."""
    cells = sorted((c for c in trained(lab, world) if c.name in found), key=lambda cell: cell.size)
    columns = ["arm", *(f"{what}, {cell.size}" for what in ("mean", "one update") for cell in cells)]
    rows = []
    for arm in lab.arms:
        if arm.name not in lab.by_size:
            continue
        of = [found[cell.name].arms.get(arm.name) for cell in cells]
        means = ["-" if a is None else known(goal(a).cosine, ".3f") for a in of]
        rows.append([arm.name, *means, *("-" if a is None else f"{goal(a).one:.3f}" for a in of)])
    title = f"{world}: cosine to success@K by trials of a group, {lab.trials} trials an update"
    return told(Table(title, columns, rows if cells else []))


def trained(lab: Lab, world: str) -> list[Cell]:
    last = list(lab.policies)[-1]
    return [cell for cell in lab.cells() if cell.world.name == world and cell.policy == last]


def goal(arm: OfArm) -> Any:
    return arm.parts[WHOLE][SUCCESS]


def draw(lab: Lab, found: Found, folder: Path) -> list[Path]:
    """A figure a world. Without matplotlib nothing."""
    pyplot = pyplot_of(lab.name)
    if pyplot is None:
        return []
    written = []
    for world in lab.worlds:
        cell = next(c for c in trained(lab, world.name) if c.size == lab.sizes[0])
        if cell.name in found:
            written += save(dots(pyplot, cell, found[cell.name]), folder / world.name)
    return written


def dots(pyplot: Any, cell: Cell, record: Record) -> Any:
    names = [arm.name for arm in cell.arms if arm.name in record.arms][::-1]
    figure, axes = pyplot.subplots(figsize=(7, 0.24 * len(names) + 1.2))
    places = range(len(names))
    whole = [record.arms[name].parts[WHOLE] for name in names]
    axes.plot(
        [w[CLAIM].cosine for w in whole], places, "o", fillstyle="none", label="mean, to what it claims"
    )
    errors = [1.96 * w[SUCCESS].cosine_error for w in whole]
    means = [w[SUCCESS].cosine for w in whole]
    axes.errorbar(means, places, xerr=errors, fmt="o", markersize=4, label="mean, to success@K")
    axes.plot([w[SUCCESS].one for w in whole], places, "x", label="one update, to success@K")
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set(
        xlabel="cosine to the true gradient", title=f"{cell.world.name}, {cell.policy} policy", xlim=(0, 1.02)
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center")
    return figure
