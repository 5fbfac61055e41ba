"""How far a study is: one table on a terminal, which is drawn over; elsewhere a line now and then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from lamer_fast.run.display import live_terminal
from lamer_fast.study.runner import Running

UP_AND_CLEAR = "\x1b[{}F\x1b[J"


class Teller:
    def __init__(self, every_s: float = 60.0) -> None:
        self.every_s, self.live, self.last = every_s, live_terminal(), 0.0
        self._drawn = self._failed = 0  # lines, cells

    def __call__(self, running: Sequence[Running], done: int, total: int, failed: Sequence[str]) -> None:
        now = time.monotonic()
        if now - self.last < (1.0 if self.live else self.every_s) and len(failed) == self._failed:
            return
        self.last, self._failed = now, len(failed)
        if not self.live:
            doing = "   ".join(f"{one.cell.name} {doing_of(one)}" for one in running)
            lost = f"   {failures(failed)}" if failed else ""
            print(time.strftime("%H:%M:%S"), f"{done} of {total} cells{lost}   {doing}", flush=True)
            return
        size = shutil.get_terminal_size()
        lines = table(running, done, total, now, failed)[: max(1, size.lines - 1)]
        over = UP_AND_CLEAR.format(self._drawn) if self._drawn else ""
        print(over + "\n".join(line[: size.columns - 1] for line in lines), flush=True)
        self._drawn = len(lines)


def table(
    running: Sequence[Running], done: int, total: int, now: float, failed: Sequence[str] = ()
) -> list[str]:
    """Lines: how many cells are done and which failed, and a row for each that runs."""
    head = ["running", "iteration", "minutes", *(["GPU"] if any(one.gpus for one in running) else [])]
    rows = [
        [one.cell.name, doing_of(one), f"{(now - one.since) / 60:.1f}", ",".join(one.gpus)][: len(head)]
        for one in running
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    shown = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    head_lines = [f"{done} of {total} cells are done, {total - done - len(running)} wait"]
    return [*head_lines, *([failures(failed)] if failed else []), *(shown if rows else [])]


def failures(names: Sequence[str]) -> str:
    return f"failed: {', '.join(names)} (why is told at the end, and in the logs)"


def doing_of(one: Running) -> str:
    made, of = one.done()
    return f"{made}/{of}" if made < of else "evaluating"
