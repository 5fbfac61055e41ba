"""What the runs of a folder are doing, read from what they left there. Writes nothing, imports no torch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lamer_fast.run.lock import MARK, check_free
from lamer_fast.run.record import Record
from lamer_fast.run.whose import is_run

State = Literal["running", "stopped", "finished", "broken"]
MAX_LINE = 1 << 20  # bytes of metrics.jsonl that are looked through for its last record


@dataclass(frozen=True)
class RunState:
    """One run: `iteration` of `iterations` are done, and its last line of metrics says how well it does."""

    name: str
    state: State
    iteration: int = 0
    iterations: int | None = None  # None: config.json does not say
    success_at: float | None = None  # within all episodes of a trial, of the last iteration's trials
    held_out: float | None = None  # the same on held-out boards, where the last iteration was evaluated
    episodes: int | None = None  # K
    age_s: float = 0.0  # seconds since it wrote a record, or began
    note: str = ""  # what is broken, or how it ended

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value is not None and value != ""}


def list_runs(folder: Path, now: float | None = None) -> list[RunState]:
    """Every run in `folder`, the latest first; what is no run (a model, a file) is left out.

    Raises:
        OSError: the folder cannot be read.
    """
    now = time.time() if now is None else now
    found = [_look(path, now) for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted((run for run in found if run is not None), key=lambda run: (run.age_s, run.name))


def _look(path: Path, now: float) -> RunState | None:
    """A fault of one folder is told of that run and hides no other."""
    try:
        if path.is_symlink() and not path.exists():
            return RunState(path.name, "broken", note=f"a link to {os.readlink(path)}, which is not there")
        if not path.is_dir():
            return None
        os.listdir(path)
        return _state(path, now) if is_run(path) else None
    except (OSError, ValueError, RecursionError) as error:
        age = _age(path, now)
        return RunState(path.name, "broken", age_s=age, note=str(error) or type(error).__name__)


def _state(path: Path, now: float) -> RunState:
    running = _runs(path)
    metrics = path / "metrics.jsonl"
    values = _settings(path, missing_is_fine=running)
    facts: dict[str, Any] = {"iterations": values.get("train.iterations")}
    facts["age_s"] = _age(metrics if metrics.exists() else path / MARK, now)
    try:
        last = _last_record(metrics)
    except ValueError as error:
        return RunState(path.name, "broken", note=str(error), **facts)
    if last is not None:
        facts |= {"iteration": last.iteration + 1, "success_at": last.success_at[-1]}
        facts |= {
            "episodes": len(last.success_at),
            "held_out": last.eval.success_at[-1] if last.eval else None,
        }
    if running:
        return RunState(path.name, "running", **facts)
    if facts["iterations"] is not None and facts.get("iteration", 0) >= facts["iterations"]:
        model = (path / "model" / "config.json").is_file()
        note = "" if model else "it has no model: lamer-fast train, as before, writes it"
        return RunState(path.name, "finished", note=note, **facts)
    killed = (path / MARK).is_file() and (path / MARK).stat().st_size > 0
    return RunState(path.name, "stopped", note="its process was killed" if killed else "", **facts)


def _runs(path: Path) -> bool:
    if not (path / MARK).is_file():
        return False
    try:
        check_free(path)
    except ValueError:
        return True
    return False


def _settings(path: Path, *, missing_is_fine: bool) -> Mapping[str, Any]:
    """Of config.json, unchecked: an environment of the user's own need not be there to list its run."""
    file = path / "config.json"
    if not file.is_file():
        if missing_is_fine or (path / MARK).is_file():
            return {}  # it has just begun, or was stopped before it had
        raise ValueError(f"{file} is missing")
    try:
        values = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"config.json is damaged: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("train.iterations"), int):
        raise ValueError("config.json does not say train.iterations, expected the settings of a run")
    return values


def _last_record(path: Path) -> Record | None:
    """The last whole line, since another process may be writing the next; None where there is none."""
    if not path.exists():
        return None
    if not path.is_file():
        raise ValueError(f"{path.name} is no file")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_LINE))
        tail = file.read(MAX_LINE)
    lines = tail[: tail.rfind(b"\n") + 1].splitlines()
    if not lines:
        return None
    try:
        record = Record.from_json(json.loads(lines[-1]))
        if not (isinstance(record.iteration, int) and record.success_at):
            raise ValueError("it names no iteration or no success")
        return record
    except (ValueError, TypeError) as error:
        raise ValueError(f"the last record of {path.name} is damaged: {error}") from None


def _age(path: Path, now: float) -> float:
    try:
        return max(0.0, now - path.stat().st_mtime)
    except OSError:
        return 0.0
