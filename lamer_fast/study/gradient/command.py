"""`lamer-fast study` of a lab: the flags of the command, on cells that need no training."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Protocol

from lamer_fast.run.stop import INTERRUPTED, StopRequest
from lamer_fast.study.gradient.lab import Lab, read_lab
from lamer_fast.study.gradient.models import ModelCell
from lamer_fast.study.gradient.record import missing, path_of, read
from lamer_fast.study.gradient.report import draw, tables_of
from lamer_fast.study.gradient.run import run_cells
from lamer_fast.study.read import table_of
from lamer_fast.study.spec import chosen
from lamer_fast.study.tables import write_tables


class Options(Protocol):
    """The flags that mean something here; a lab trains nothing and runs in one process."""

    out: Path
    runs: Path
    only: str
    minutes: float | None
    quick: bool
    report: bool
    list: bool


def load(source: str) -> Lab:
    """Raises ValueError if the file is no lab, or names what cannot be used."""
    try:
        return read_lab(Path(source).stem, table_of(source))
    except ValueError as error:
        raise ValueError(f"study {source!r}: {error}") from None


def run_lab(source: str, options: Options) -> int:
    lab = load(source)
    if options.quick:
        lab = lab.quick()
    cells, folder = chosen(lab.all_cells(), options.only), options.out / lab.name
    to_do = [cell for cell in cells if missing(path_of(folder, cell), lab.settings(cell), cell)]
    waits = {cell.name: cell.model.waits_for(options.runs) for cell in to_do if isinstance(cell, ModelCell)}
    if options.list:
        for cell in cells:
            after = f", after {waits[cell.name]}" if waits.get(cell.name) else ""
            print(f"{'to do' if cell in to_do else 'finished':9} {cell.name}{after}")
        return 0
    for name, what in waits.items():
        if what:
            print(f"{name} is left out: there is no {what.removeprefix('the ')}", flush=True)
    cells = [cell for cell in cells if not waits.get(cell.name)]
    to_do = [cell for cell in to_do if not waits.get(cell.name)]
    if to_do and not options.report:
        print(f"{lab.question}\n{len(cells) - len(to_do)} of {len(cells)} cells are finished", flush=True)
        end = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
        with StopRequest() as stop:
            run_cells(
                lab, cells, folder, options.runs,
                tell=lambda line: print(time.strftime("%H:%M:%S"), line, flush=True),
                over=lambda: stop.asked or time.monotonic() >= end,
            )  # fmt: skip
        if stop.asked:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return INTERRUPTED
    write(lab, folder)
    return 0


def write(lab: Lab, folder: Path) -> None:
    """Tables and figures of all cells that are finished, whichever were asked for now."""
    records: Any = {cell.name: read(path_of(folder, cell)) for cell in lab.all_cells()}
    found = {name: record for name, record in records.items() if record is not None}
    if not found:
        print("no cell is finished yet")
        return
    tables = tables_of(lab, found)
    write_tables(tables, folder)
    figures = draw(lab, found, folder / "figures")
    for table in tables:
        print(f"\n{table.title}\n\n{table.markdown()}")
    without = "" if figures else "; figures need matplotlib (pip install 'lamer-fast[plot]')"
    seconds = sum(record.cpu_seconds for record in found.values())
    print(
        f"\n{len(found)} of {len(records)} cells, {seconds:.0f} CPU seconds; "
        f"{folder / 'tables.md'}, .csv and .tex beside it{without}"
    )
