"""What the library has to say goes to the logger `lamer_fast`; the commands print it."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lamer_fast.text import one_line

log = logging.getLogger("lamer_fast")


class _Printer(logging.Handler):
    """Warnings as `note: ...` and what is said beside on standard output, errors on standard error.

    The streams are looked up at each line, since a live table and a lost reader replace them.
    """

    def emit(self, record: logging.LogRecord) -> None:
        note = "note: " if record.levelno == logging.WARNING else ""
        stream = sys.stderr if record.levelno >= logging.ERROR else sys.stdout
        print(f"{note}{record.getMessage()}", file=stream, flush=True)


def starting(what: str) -> None:
    """Tells the user of a terminal, on standard error, what begins: before torch, which loads for seconds."""
    if sys.stderr.isatty() and "torch" not in sys.modules:
        with suppress(OSError):  # it has been closed
            print(f"{one_line(what)}; loading torch ...", file=sys.stderr, flush=True)


@contextmanager
def printed() -> Iterator[None]:
    """In its block the logger is a command's: lines of our own form, and nobody else's handlers."""
    before = log.level, log.propagate, list(log.handlers)
    log.setLevel(logging.INFO)
    log.propagate, log.handlers = False, [_Printer()]
    try:
        yield
    finally:
        log.setLevel(before[0])
        log.propagate, log.handlers = before[1:]
