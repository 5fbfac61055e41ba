"""What people see while a run trains: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PHASES = ("sample", "env", "learn", "sync")
NUM_ROWS = 14  # iterations kept on the screen


def duration(seconds: float) -> str:
    """`3 s`, `4 min 05 s` or `2 h 10 min`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60:02d} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60:02d} min"


def printable(text: str) -> str:
    """Text of models and environments with its control characters (ANSI sequences among them) stripped."""
    return "".join(c for c in text if c == "\n" or (c >= " " and c != "\x7f" and not "\x80" <= c < "\xa0"))


def cells(record: Mapping[str, Any]) -> dict[str, str]:
    """Column heading -> text, for one record of metrics.jsonl."""
    seconds = record["seconds"]
    total = sum(seconds.get(p, 0.0) for p in PHASES) or 1.0
    tokens = record["tokens"]
    row = {"iteration": str(record["iteration"])}
    row |= {f"success@{k}": f"{s:.3f}" for k, s in enumerate(record["success_at"], 1)}
    row |= {
        "return": f"{record['return']:.2f}",
        "entropy": f"{record['entropy']:.3f}",
        "mismatch": f"{record['mismatch']['mean']:.1e}",
        "tokens/s": f"{tokens['sampled'] / max(seconds.get('sample', 0.0), 1e-9):,.0f}",
        "trained/s": f"{tokens['trained'] / max(seconds.get('learn', 0.0), 1e-9):,.0f}",
    }
    if "least_sample" in seconds:  # how near sampling and learning come to what the device could do
        shares = (seconds[f"least_{p}"] / max(seconds.get(p, 0.0), 1e-9) for p in ("sample", "learn"))
        row["of limit"] = "/".join(f"{100 * share:.0f}" for share in shares) + " %"
    row["/".join(PHASES)] = "/".join(f"{100 * seconds.get(p, 0.0) / total:.0f}" for p in PHASES) + " %"
    return row


class Display:
    """`phase()` names what runs now, `update()` shows one iteration's record; a context manager."""

    def __init__(self, name: str, iterations: int, *, terminal: bool | None = None, footer: str = "") -> None:
        self.name, self.iterations, self.footer = name, iterations, footer
        self.rows: deque[dict[str, str]] = deque(maxlen=NUM_ROWS)
        self.now, self.started = "starting", time.monotonic()
        self.first_iteration: int | None = None
        self.done = 0
        self.live = None
        if sys.stdout.isatty() if terminal is None else terminal:
            from rich.live import Live

            self.live = Live(get_renderable=self.render, refresh_per_second=2)

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
        self.now = name
        yield

    def update(self, record: Mapping[str, Any]) -> None:
        if self.first_iteration is None:
            self.first_iteration = record["iteration"]
        self.done = record["iteration"] + 1
        row = cells(record)
        self.rows.append(row)
        if self.live is None:
            print("  ".join(f"{k} {v}" for k, v in row.items()) + f"  left {self.time_left()}", flush=True)

    def time_left(self) -> str:
        if self.first_iteration is None:
            return "?"
        per_iteration = (time.monotonic() - self.started) / (self.done - self.first_iteration)
        return duration(per_iteration * (self.iterations - self.done))

    def render(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        spent, left = duration(time.monotonic() - self.started), self.time_left()
        progress = f"iteration {self.done}/{self.iterations}"
        head = Text(f"{self.name}   {progress}   {self.now}   {spent} spent, {left} left")
        table = Table(expand=False)
        if not self.rows:
            return head
        for heading in self.rows[-1]:
            table.add_column(heading, justify="right")
        for row in self.rows:
            table.add_row(*row.values())
        return Group(head, table, Text(self.footer)) if self.footer else Group(head, table)
