"""`lamer-fast study`: runs a grid of arms, parts and seeds, and writes tables, figures and a page of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lamer_fast.cli.flags import Command, Target
from lamer_fast.fields import Range
from lamer_fast.files import check_folder, check_writable
from lamer_fast.say import starting
from lamer_fast.study.read import LABS, load, names, table_of
from lamer_fast.study.spec import Cell, Study, chosen


@dataclass(frozen=True)
class StudyOptions:
    out: Path = Path("runs/studies")
    """Folder of results, tables, figures and page, with a folder for each study."""
    runs: Path = Path("runs")
    """Folder of the runs that the cells train."""
    jobs: Annotated[int, Range(0, 256)] = 0
    """Number of cells at a time; 0 takes as many as the cores or GPUs allow."""
    only: str = ""
    """Only cells with one of these words in their names: "lamer,gigpo"; a whole word goes before a part."""
    minutes: Annotated[float, Range(0.1, 1e5)] | None = None
    """Stop after this time, so that each cell can continue later."""
    model: str = ""
    """Model in place of the recipes' own: one that ships, or a TOML file, which may extend one."""
    dry_run: bool = False
    """Run nothing; print the needs of each training."""
    gpu_memory: Annotated[float, Range(0.1, 10_000)] | None = None
    """With --dry-run: size in GiB of a GPU, here or elsewhere."""
    quick: bool = False
    """Train two iterations on few boards, only to show that a study runs."""
    report: bool = False
    """Run nothing; write tables, figures and page of the finished cells."""
    list: bool = False
    """Print the cells and whether they are finished."""


COMMAND = Command(
    "study",
    "Compare ways to train over seeds, on fixed boards. Finished cells are not run again.",
    StudyOptions,
    Target(
        "STUDY",
        f"a shipped study ({', '.join((*names(), *LABS))}) or a TOML file, which may extend one",
        words=(*names(), *LABS),
    ),
)


def run(argv: Sequence[str]) -> int:
    source, options, _ = COMMAND.parse(argv)
    check_folder("--out", options.out)
    if not (options.list or options.dry_run):
        check_writable("--out", options.out)
    if "worlds" in table_of(source):
        given = {"--model": options.model, "--dry-run": options.dry_run, "--gpu-memory": options.gpu_memory}
        for flag, value in given.items():
            if value:
                raise ValueError(f"{flag} has no effect on {source!r}, which trains nothing")
        starting(f"the study {source}")
        from lamer_fast.study.gradient.command import run_lab

        return run_lab(source, options)
    study = load(source, options.model)
    if study.left_out:
        print(f"left out on {study.model}: {study.left_out}", file=sys.stderr, flush=True)
    if options.gpu_memory is not None and not options.dry_run:
        raise ValueError(f"--gpu-memory {options.gpu_memory:g} is for --dry-run; a run measures its own GPU")
    if options.quick:
        study = study.quick()
    folder = options.out / study.name
    cells = chosen(study.cells(), options.only)
    if options.dry_run:
        starting(f"estimating {study.name}")
        from lamer_fast.study.needs import needs

        print(needs(cells, options.gpu_memory).markdown())
        return 0

    from lamer_fast.study.stored import read_results, take_over

    finished = read_results(folder, cells)
    missing = [cell for cell in cells if cell.name not in finished]
    if not (options.list or options.report) and (taken := take_over(folder, missing)):
        print(f"known from other studies: {', '.join(taken)}")
        finished = read_results(folder, cells)
    if options.list:
        for cell in cells:
            print(f"{'finished' if cell.name in finished else 'to do':9} {cell.name}")
        return 0
    waiting = [cell for cell in cells if cell.name not in finished]
    failed: dict[str, str] = {}
    if waiting and not options.report:
        from lamer_fast.run.stop import INTERRUPTED
        from lamer_fast.study.reuse import check_own_run
        from lamer_fast.study.summary import check_boards

        for cell in waiting:
            check_own_run(cell, options.runs)
        check_writable("--runs", options.runs)
        check_boards(finished, waiting)
        print(f"{study.question}\n{len(finished)} of {len(cells)} cells are finished", flush=True)
        failed, stopped = run_missing(study, source, waiting, folder, options)
        if stopped:
            tell_failures(failed)
            print("stopped; the same command goes on from here", file=sys.stderr)
            return INTERRUPTED
    write(study, folder, options.runs)
    tell_failures(failed)
    return 1 if failed else 0


def run_missing(
    study: Study, source: str, waiting: Sequence[Cell], folder: Path, options: StudyOptions
) -> tuple[dict[str, str], bool]:
    """(why cells failed, by their names; whether somebody asked to stop)."""
    from lamer_fast.run.output import without_reader
    from lamer_fast.run.stop import StopRequest
    from lamer_fast.study.progress import Teller
    from lamer_fast.study.runner import run_cells
    from lamer_fast.study.share import gpus_for, jobs_for

    end = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
    gpus = gpus_for(waiting[0].config)
    jobs = options.jobs or jobs_for(waiting[0].config, gpus)
    with StopRequest() as stop, without_reader():
        failed = run_cells(
            study, source, waiting, folder, options.runs, jobs=jobs, gpus=gpus, quick=options.quick,
            tell=Teller(), over=lambda: stop.asked or time.monotonic() >= end,
        )  # fmt: skip
    return failed, stop.asked


def tell_failures(failed: Mapping[str, str]) -> None:
    for name, why in failed.items():
        print(f"cell {name} failed:\n{why}", file=sys.stderr)


def write(study: Study, folder: Path, runs: Path) -> None:
    """Tables, figures and page of all cells that are finished, whichever were asked for now."""
    from lamer_fast.study.figures import draw
    from lamer_fast.study.origin import origin
    from lamer_fast.study.page import write_page
    from lamer_fast.study.stored import read_results
    from lamer_fast.study.summary import summaries
    from lamer_fast.study.tables import tables_of, write_tables

    results = read_results(folder, study.cells())
    if not results:
        print("no cell is finished yet")
        return
    found = summaries(study, results)
    tables = [*tables_of(study, found), origin([result for summary in found for result in summary.results])]
    write_tables(tables, folder)
    figures = draw(study, found, folder / "figures")
    page = write_page(study, found, tables, figures, folder, runs)
    for table in tables:
        print(f"\n{table.title}\n\n{table.markdown()}")
    without = "" if figures else "; figures need matplotlib (pip install 'lamer-fast[plot]')"
    print(
        f"\n{len(results)} of {len(study.cells())} cells; {page}, tables.md, .csv and .tex beside it{without}"
    )
