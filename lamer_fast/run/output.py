"""Standard output and error that may lose their reader while a run goes on."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO


@contextmanager
def without_reader() -> Iterator[None]:
    """In its block `print` never fails; once nobody reads (closed pipe, dropped terminal) it does nothing."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_open_end(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def silent() -> Iterator[None]:
    """In its block what is printed goes nowhere; errors are still seen."""
    with open(os.devnull, "w") as null, redirect_stdout(null):
        yield


def _open_end(stream: TextIO | None) -> Any:
    return _OpenEnd(stream if stream is not None else open(os.devnull, "w"))


class _OpenEnd:
    """A text stream that drops what it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream was closed in this process
            drop(self._stream)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            drop(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def drop(stream: TextIO) -> None:
    """From here on what is written there goes nowhere: by Python, by C code and at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def open_standard_files() -> None:
    """Opens what the process was started without: else the next file gets its number, and what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
