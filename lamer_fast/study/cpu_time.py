"""The CPU time of a run, over all the processes that have trained it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lamer_fast.files import replace_file


@contextmanager
def counted(path: Path, every_s: float = 10.0) -> Iterator[None]:
    """In its block the file `path` holds the CPU seconds of this process, added to those that it held before.

    It is written now and then once its folder is there, so that a process that is killed loses `every_s`.
    """
    before = float(path.read_text()) if path.exists() else 0.0
    started, over = time.process_time(), threading.Event()

    def write() -> None:
        if path.parent.is_dir():
            replace_file(path, f"{before + time.process_time() - started:.1f}\n")

    def watch() -> None:
        while not over.wait(every_s):
            with suppress(OSError):  # a full disk: the run itself tells it
                write()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        write()
