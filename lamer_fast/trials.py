"""The trials that a run or an evaluation recorded, for code of one's own; the schema is in docs/runs.md."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lamer_fast.files import read_jsonl

Frame = Literal["polars", "pandas"]


def read_trials(path: str | Path, frame: Frame | None = None) -> Any:
    """Recorded trials in order: of one trials/*.jsonl.gz, of a folder of such files, or of a run's folder.

    Args:
        frame: None gives a list with a dictionary for each trial. "polars" or "pandas" gives a frame with
            a row for each turn: the trial's values, then the turn's. What a file of an older version lacks is
            null there, and has no key in a dictionary.

    Raises:
        ValueError: there are no trials, a line is none (named), or `frame` is another word.
        ImportError: the package of `frame` is not installed.
    """
    if frame not in (None, "polars", "pandas"):
        raise ValueError(f"frame = {frame!r}, expected None, 'polars' or 'pandas'")
    trials = [trial for file in trial_files(Path(path)) for trial in trials_of(file)]
    if frame is None:
        return trials
    rows = list(_rows(trials))
    if frame == "pandas":
        return import_module("pandas").DataFrame(rows)
    polars = import_module("polars")
    of_64_bits = {key: polars.UInt64 for key in ("task", "seed") if rows and key in rows[0]}
    return polars.DataFrame(rows, infer_schema_length=None, schema_overrides=of_64_bits)


def trial_files(path: Path) -> list[Path]:
    """Raises ValueError when there is none."""
    if path.is_file():
        return [path]
    folder = path / "trials" if (path / "trials").is_dir() else path
    found = sorted(folder.glob("*.jsonl.gz"))
    if not found:
        raise ValueError(f"{path} holds no trials: expected trials/*.jsonl.gz, as a run writes them")
    return found


def trials_of(file: Path) -> Iterator[dict[str, Any]]:
    """Each with its `iteration` where the file's name tells it.

    Raises:
        ValueError: a line is no trial; names the file, the line and what it lacks.
    """
    number = file.name.split(".")[0]
    known = {"iteration": int(number)} if number.isdecimal() else {}
    for line, trial in enumerate(read_jsonl(file), 1):
        if wrong := _lacks(trial):
            raise ValueError(f"{file}, line {line} is no trial: {wrong}")
        yield known | trial


# what every version has recorded
OF_TRIAL: dict[str, type] = {"group": int, "trial": int, "success_by_episode": list, "turns": list}
OF_TURN: dict[str, type] = {"phase": str, "episode": int, "turn": int, "board": str, "reply": str}


def _lacks(trial: dict[str, Any]) -> str:
    for key, kind in OF_TRIAL.items():
        if not isinstance(trial.get(key), kind):
            return f"it has no {key}"
    for i, turn in enumerate(trial["turns"]):
        for key, kind in OF_TURN.items():
            if not isinstance(turn, dict) or not isinstance(turn.get(key), kind):
                return f"its turn {i} has no {key}"
    return ""


def _rows(trials: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    turns = [(trial, turn) for trial in trials for turn in trial["turns"]]
    keys = dict.fromkeys(
        key for trial, turn in turns for part in (trial, turn) for key in part if key != "turns"
    )
    for trial, turn in turns:
        both = trial | turn
        yield {key: both.get(key) for key in keys}
