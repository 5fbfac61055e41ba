"""Runs the cells of a study that have no result yet, several processes at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamer_fast.run.lock import try_lock
from lamer_fast.say import log
from lamer_fast.study.reuse import run_of
from lamer_fast.study.share import least_used, surroundings
from lamer_fast.study.spec import Cell, Study, digest
from lamer_fast.study.stored import result_path

POLL_S = 0.5


@dataclass
class Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    log: Path
    run: Path
    gpus: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    log_start: int = 0  # bytes that earlier starts had written

    def done(self) -> tuple[int, int]:
        """(iterations that are done, all of them); read from the run's metrics."""
        total = self.cell.config.train.iterations if self.cell.arm.train else 0
        try:
            return min(total, (self.run / "metrics.jsonl").read_bytes().count(b"\n")), total
        except OSError:
            return 0, total


def run_cells(
    study: Study,
    source: str,
    cells: Sequence[Cell],
    folder: Path,
    runs: Path,
    *,
    jobs: int,
    gpus: Sequence[str] = (),
    quick: bool = False,
    tell: Callable[[Sequence[Running], int, int, Sequence[str]], None] = lambda *progress: None,
    over: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """Runs each cell in a process of its own, `jobs` at a time, until all are done or `over` says so.

    Then each process is stopped where it can go on later, as it is when this is interrupted. Of `gpus` each
    cell sees those that the fewest others use, one for each of its processes. `tell` is called now and then
    with what runs, how many cells ended, how many there are, and which failed. A cell that another command
    runs, or whose policy it trains, is left to it.

    Returns:
        Cell -> why it failed, of those that did.
    """
    waiting, running, failed, ended = list(cells), list[Running](), dict[str, str](), 0
    elsewhere: list[Cell] = []
    try:
        while (waiting or running) and not over():
            while len(running) < jobs and (
                cell := next_of(waiting, [*(one.cell for one in running), *elsewhere])
            ):
                waiting.remove(cell)
                if result_path(folder, cell).exists():  # since this command began
                    ended += 1
                    continue
                own = least_used(gpus, [one.gpus for one in running], cell.config.train.processes)
                if one := start(source, cell, folder, runs, own, quick=quick, model=study.model):
                    running.append(one)
                else:
                    elsewhere.append(cell)
            if not running:
                break
            for one in [r for r in running if r.process.poll() is not None]:
                running.remove(one)
                ended += 1
                if one.process.returncode:
                    failed[one.cell.name] = why_ended(one)
            tell(running, ended, len(cells), list(failed))
            time.sleep(POLL_S)
        theirs = {cell.training for cell in elsewhere}
        for cell in [*elsewhere, *(cell for cell in waiting if cell.training in theirs)]:
            if not result_path(folder, cell).exists():
                log.info(f"{cell.name} is left to the command that runs it, or trains its policy, now")
        return failed
    finally:
        stop([one.process for one in running])


def next_of(waiting: Sequence[Cell], busy_with: Iterable[Cell]) -> Cell | None:
    """The first whose training is not going on already, for another cell."""
    busy = {cell.training for cell in busy_with}
    return next((cell for cell in waiting if cell.training not in busy), None)


def start(
    source: str, cell: Cell, folder: Path, runs: Path, gpus: list[str], *, quick: bool, model: str = ""
) -> Running | None:
    """A process of its own group, so that the terminal's Ctrl-C reaches it once, through `stop`.

    As long as it lives it holds the lock on its log. None: that of another command does.
    """
    path = runs / f"{cell.config.name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    result_path(folder, cell).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lamer_fast.study.cell", f"{source}:{cell.name}"]
    command += ["--out", str(result_path(folder, cell)), "--runs", str(runs), *(["--quick"] if quick else [])]
    command += ["--settings", digest(cell.settings())]
    command += ["--model", model] if model else []
    with path.open("ab") as opened:
        if not try_lock(opened.fileno()):
            return None
        begun = opened.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=opened, stderr=subprocess.STDOUT,
            start_new_session=True, env=surroundings(cell.config, gpus),
        )  # fmt: skip
    return Running(cell, process, path, run_of(cell, runs), gpus, log_start=begun)


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks each to end after its iteration, as the first Ctrl-C does, and waits for it."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in processes:
        process.wait()


def why_ended(one: Running, count: int = 3) -> str:
    """The signal, if one ended it, the last lines that it wrote since it was started, and where all are."""
    number, reason = -(one.process.returncode or 0), []
    if number > 0:
        hint = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
        reason.append(f"ended by signal {signal.Signals(number).name}{hint}; it goes on where it last saved")
    written = one.log.read_bytes()[one.log_start :].decode(errors="replace")
    lines = [line for line in written.splitlines() if line.strip()]
    return "\n".join([*reason, *lines[-count:], f"(all of it: {one.log})"])
