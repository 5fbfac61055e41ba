"""A trace of one iteration: every operator, inside ranges that carry our own names."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from lamer_fast.files import writing
from lamer_fast.say import log
from lamer_fast.spans import marking, span


def tracing(iterations: Iterable[int], wanted: int | None, path: Path) -> Iterator[int]:
    """The iterations; what a loop does in the wanted one is written to `path`, unless it leaves the loop."""
    for iteration in iterations:
        if iteration != wanted:
            yield iteration
            continue
        with traced(f"iteration {iteration}", path):
            yield iteration


@contextmanager
def traced(name: str, path: Path) -> Iterator[None]:
    """Writes what runs inside as Chrome's trace JSON, gzip if `path` ends in .gz, and says where.

    Nothing is written where the block raises.

    Raises:
        CannotWrite: the disk refuses the file.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    with profile(activities=activities) as found, marking(record_function), span(name):
        yield
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        found.export_chrome_trace(str(path))
    log.info(f"trace of {name}: {path}, for https://ui.perfetto.dev")
