"""Phases of an iteration: timed and watched."""

import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lamer_fast.spans import span

STDERR = 2  # the file itself: what stands in sys.stderr may wait for a lock
GRACE_S = 2.0  # after the limit, for a message; stacks and the end follow even if the interpreter is stuck


class Clock:
    """Wall seconds per phase of one iteration. One over its limit is named and ends the run with all stacks.

    The name needs the interpreter's lock: if what hangs holds it, the stacks alone say where.
    """

    def __init__(self, watchdog_s: float) -> None:
        self.watchdog_s = watchdog_s
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        # the dump comes from a thread of C code, which waits for no lock
        faulthandler.dump_traceback_later(self.watchdog_s + GRACE_S, exit=True, file=STDERR)
        message = threading.Timer(self.watchdog_s, self._end, [name])
        message.daemon = True
        message.start()
        started = time.perf_counter()
        try:
            with span(name):
                yield
        finally:
            message.cancel()
            faulthandler.cancel_dump_traceback_later()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _end(self, name: str) -> None:
        message = (
            f"phase {name!r} has taken longer than train.watchdog_s = {self.watchdog_s:g} s. If it is only "
            "slow, raise that; the same command goes on from the last checkpoint. Where it stands:\n"
        )
        with suppress(OSError):
            os.write(STDERR, message.encode())
            faulthandler.dump_traceback(STDERR)
        os._exit(1)

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
