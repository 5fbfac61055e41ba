"""The results of a study as they lie in its folder, and in those of other studies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lamer_fast.study.result import CellResult, changed
from lamer_fast.study.spec import Cell, digest


def result_path(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.name}.json"


def read_results(folder: Path, cells: Sequence[Cell]) -> dict[str, CellResult]:
    """Of the cells that are finished, by their names.

    Raises:
        ValueError: one was made by other settings than the study names now.
    """
    found: dict[str, CellResult] = {}
    for cell in cells:
        path = result_path(folder, cell)
        if not path.exists():
            continue
        result = CellResult.read(path)
        if difference := changed(result, cell):
            raise ValueError(f"{path} was made by other settings: {difference}. Move it away to run it again")
        # the settings are the cell's, seed included; its name may have been another one
        found[cell.name] = replace(result, part=cell.part, arm=cell.arm.name, seed=cell.seed)
    return found


def take_over(folder: Path, cells: Sequence[Cell]) -> list[str]:
    """Names of the cells whose settings a finished cell of another study, beside `folder`, has as well: its
    result is theirs.

    Settings include the seed, and how the policy is evaluated.
    """
    known: dict[str, CellResult] = {}
    for path in sorted(folder.parent.glob("*/cells/*.json")):
        try:
            found = CellResult.read(path)
        except ValueError:  # of a lab, which keeps other cells, or damaged: its own study tells that
            continue
        known.setdefault(digest(found.settings), found)
    taken = []
    for cell in cells:
        found_there = known.get(digest(cell.settings()))
        if found_there is not None:
            own = replace(found_there, study=folder.name, part=cell.part, arm=cell.arm.name)
            own.write(result_path(folder, cell))
            taken.append(cell.name)
    return taken
