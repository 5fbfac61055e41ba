"""Phases of an iteration: timed, watched, and interruptible only between iterations."""

import faulthandler
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Clock:
    """Wall seconds per phase of one iteration. A phase over its limit prints all stacks and ends the run."""

    def __init__(self, watchdog_s: float) -> None:
        self.watchdog_s = watchdog_s
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        # works while the interpreter lock is held by whatever hangs: the dump comes from a thread of C code
        faulthandler.dump_traceback_later(self.watchdog_s, exit=True, file=sys.__stderr__ or sys.stderr)
        started = time.perf_counter()
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def timed(self, name: str, target: Any) -> Any:
        """`target` with the time of its methods counted as `name`."""
        return _Timed(target, self.seconds, name)


class _Timed:
    def __init__(self, target: Any, seconds: dict[str, float], name: str) -> None:
        self._target, self._seconds, self._name = target, seconds, name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._target, attribute)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return value(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - started
                self._seconds[self._name] = self._seconds.get(self._name, 0.0) + seconds

        return call


class StopRequest:
    """SIGINT and SIGTERM set `asked`; a second SIGINT interrupts at once. A context manager."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "StopRequest":
        self.previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping after this iteration", file=sys.stderr, flush=True)
