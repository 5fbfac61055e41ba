"""metrics.jsonl, read as records; with trials/, cut back to what a checkpoint counts when a run goes on."""

import json
from pathlib import Path

from lamer_fast.files import read_jsonl, replace_file, writing
from lamer_fast.run.record import Record


def read(path: Path) -> list[Record]:
    """The records of a metrics.jsonl, of a running run too; none where there is no file yet.

    Raises:
        ValueError: a line is no record; names the file, the line and what is wrong.
    """
    found = []
    for number, line in enumerate(read_jsonl(path, growing=True) if path.exists() else [], 1):
        try:
            found.append(Record.from_json(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return found


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
