"""What people see while a run trains: a table in a terminal or a notebook, lines with the time elsewhere."""

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lamer_fast.run.display_table import evaluation, progress, progress_line, table, training
from lamer_fast.run.notebook import NotebookTable, in_notebook
from lamer_fast.run.record import Evaluated, Record
from lamer_fast.text import duration, one_line

NUM_ROWS = 14  # iterations kept on the screen
NUM_EVALUATIONS = 8
WARM_UP = 2  # iterations of a process that tell nothing about the next: they compile and fill caches
MEASURED = 50  # iterations that the time left is computed from
EVERY_S = 30.0  # between lines about one phase, where they are not drawn over


def live_terminal() -> bool:
    """A terminal that can draw over what it has drawn, and whose user has not asked for plain text."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    return sys.stdout.isatty() and not plain


class Display:
    """`phase()` names what runs now and `advance()` says how far it is; `update()` shows one iteration's
    record; a context manager.

    Args:
        earlier: records of a run that goes on: shown, but the time left is not computed from them.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        iterations: int,
        *,
        live: bool | None = None,
        earlier: Iterable[Record] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.iterations, self.clock = one_line(name, 60), iterations, clock
        self.records: deque[Record] = deque(maxlen=NUM_ROWS)
        self.evaluated: deque[Evaluated] = deque(maxlen=NUM_EVALUATIONS)
        self.now, self.started = "starting", clock()
        self.at: tuple[int, int, str, int | None] | None = None  # of the phase: done, all, of what, tokens
        self.said = self.started  # when the last line was written
        self.done = 0  # iterations of the run
        self.updates = 0  # iterations of this process
        self.ends: deque[float] = deque(maxlen=MEASURED + 1)  # when they ended, from the last of the warm-up
        for record in earlier:
            self._keep(record)
        self.live: Any = None
        if live_terminal() if live is None else live:
            from rich.live import Live

            self.live = Live(get_renderable=lambda: self, refresh_per_second=2)
        elif live is None and in_notebook():
            self.live = NotebookTable(self.lines)

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.live:
            self.live.stop()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.now, self.at = name, None
        if isinstance(self.live, NotebookTable):
            self.live.draw()
        yield
        self.at = None

    def advance(self, done: int, total: int, what: str, tokens: int | None = None) -> None:
        """`done` of `total` of the phase are over. Call it often."""
        self.at = done, total, what, tokens
        if isinstance(self.live, NotebookTable):
            self.live.refresh()
        if self.live is None and self.clock() - self.said >= EVERY_S:
            self.said = self.clock()
            print(
                time_of_day(), f"iteration {self.done}", self.now, *progress(*self.at), sep="  ", flush=True
            )

    def trials(self, done: int, total: int, tokens: int) -> None:
        self.advance(done, total, "trials", tokens)

    def update(self, record: Record) -> None:
        self._keep(record)
        self.updates += 1
        if self.updates >= WARM_UP:
            self.ends.append(self.clock())
        if self.live is None:
            self._print(record)

    def _keep(self, record: Record) -> None:
        self.done = record.iteration + 1
        self.records.append(record)
        self.evaluated.extend(record.evaluations)

    def _print(self, record: Record) -> None:
        self.said = self.clock()
        left = self.time_left()
        words = [column.words() for column in training(record)]
        words += [] if left is None else [f"left {duration(left)}"]
        print(time_of_day(), *words, sep="  ", flush=True)
        for found in record.evaluations:
            words = [column.words() for column in evaluation(found) if column.name]
            print(time_of_day(), "held-out boards", *words, sep="  ", flush=True)

    def time_left(self) -> float | None:
        """Seconds, by the iterations after the warm-up; None until two of them have been made.

        The time in the iteration that goes on is taken off, as far as it is no longer than the others.
        """
        measured = len(self.ends) - 1
        if measured < 2:
            return None
        each = (self.ends[-1] - self.ends[0]) / measured
        left = each * max(0, self.iterations - self.done)
        return left - min(left, each, self.clock() - self.ends[-1])

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        text = "\n".join(self.lines(options.max_width, console.height))
        yield Text(text, no_wrap=True, overflow="crop")

    def lines(self, width: int, height: int) -> list[str]:
        """The newest iterations and evaluations that fit the height, with the columns that fit the width."""
        spent, left = duration(self.clock() - self.started), self.time_left()
        parts = [self.name, f"{self.done} of {self.iterations} iterations", self.now, f"{spent} spent"]
        head = wrapped(parts + ([] if left is None else [f"{duration(left)} left"]), width)
        at = self.at  # one value, since another thread draws
        if at is not None:
            head.append(progress_line(*at, width=width))
        room = height - len(head) - 3  # two lines of headings, one for the cursor
        num_evaluations = min(len(self.evaluated), max(1, room // 2 - 4))
        below = []
        if self.evaluated and room > 5:  # else an iteration goes first
            below = ["", "held-out boards, 95 % intervals"[:width]]
            below += table([evaluation(e) for e in list(self.evaluated)[-num_evaluations:]], width)
        num_rows = max(1, room - len(below))
        return head + table([training(r) for r in list(self.records)[-num_rows:]], width) + below


class Progress:
    """`done` of `total`, on a terminal's last line; elsewhere a line now and then. Call it often."""

    REDRAW_S = 0.2

    def __init__(self, what: str, every_s: float = 30.0) -> None:
        self.what, self.every_s, self.live, self.last = what, every_s, live_terminal(), time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if self.live and (done == total or time.monotonic() - self.last >= self.REDRAW_S):
            self.last = time.monotonic()
            line = f"{done}/{total} {self.what}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line}", end="\n" if done == total else "", flush=True)
        elif not self.live and time.monotonic() - self.last >= self.every_s:
            self.last = time.monotonic()
            print(time_of_day(), f"{done}/{total} {self.what}", sep="  ", flush=True)


def time_of_day() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def wrapped(parts: Iterable[str], width: int) -> list[str]:
    """The parts in as few lines as hold them whole, a longer one cut."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f"   {part}"
        else:
            lines.append(part[:width])
    return lines
