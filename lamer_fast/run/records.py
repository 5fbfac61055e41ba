"""metrics.jsonl and trials/ when a run goes on: cut back to what its checkpoint counts."""

import json
from pathlib import Path

from lamer_fast.files import replace_file, writing


def counted_metrics(path: Path, iteration: int) -> bytes:
    """The records of the first `iteration` iterations. Half a last line, from a crash, is not among them.

    Raises:
        ValueError: a record that the checkpoint counts is missing or damaged.
    """
    lines = path.read_bytes().splitlines(keepends=True)[:iteration] if path.is_file() else []
    for number, line in enumerate(lines):
        try:
            found = json.loads(line)["iteration"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found != number or not line.endswith(b"\n"):
            wrong = f"line {number + 1} is damaged, or not of iteration {number}: {line[:80]!r}"
            raise ValueError(f"{path}, {wrong}; {_way_out(number)}")
    if len(lines) < iteration:
        wrong = f"{path} has {len(lines)} records, the checkpoint has {iteration} iterations"
        raise ValueError(f"{wrong}; {_way_out(len(lines))}")
    return b"".join(lines)


def _way_out(good: int) -> str:
    return f"--from-checkpoint N takes one of at most {good} iterations, --overwrite starts anew"


def cut(folder: Path, iteration: int) -> None:
    """Keeps what the first `iteration` iterations of the run in `folder` left."""
    metrics = folder / "metrics.jsonl"
    replace_file(metrics, counted_metrics(metrics, iteration))
    for path in (folder / "trials").glob("*.jsonl.gz"):
        number = path.name.removesuffix(".jsonl.gz")
        if number.isdecimal() and int(number) >= iteration:
            with writing(path):
                path.unlink()
