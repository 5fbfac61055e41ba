"""The result of a cell as a small JSON file: enough for every table and figure, without the run.

What an evaluation found on a board is one character: of trials the episode that won, 1 to K (`a` is 10), or
0; of K independent attempts how many won. Boards come in the order of the panel, whose digest is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.eval.success import Evaluation, pass_at
from lamer_fast.files import replace_file
from lamer_fast.strict_json import COMPACT, json_text
from lamer_fast.study.spec import ATTEMPTS, Cell, difference

FORMAT = 1
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
CURVE_POINTS = 200  # iterations of a curve that are kept at most


@dataclass(frozen=True)
class Played:
    """One split: by mode a character per board."""

    panel: str
    episodes: int  # K
    modes: dict[str, str]
    measures: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)  # mode -> name -> boards

    def check(self, split: str) -> None:
        """Raises ValueError where its modes speak of unlike numbers of boards, or of more than K episodes."""
        if type(self.episodes) is not int or not 0 < self.episodes < len(DIGITS):
            raise ValueError(f"{split}: episodes = {self.episodes!r}, must be from 1 to {len(DIGITS) - 1}")
        if not self.modes or not all(self.modes.values()):
            raise ValueError(f"{split} has no mode, or one without boards")
        known, (first, boards) = DIGITS[: self.episodes + 1], next(iter(self.modes.items()))
        for mode, digits in self.modes.items():
            if len(digits) != len(boards):
                raise ValueError(f"{split}: {first} has {len(boards)} boards, {mode} {len(digits)}")
            if wrong := sorted(set(digits) - set(known)):
                raise ValueError(f"{split}: {mode} has {wrong[0]!r} for a board, must be one of {known}")
        for mode, by_name in self.measures.items():
            for name, values in by_name.items():
                numbers(f"{split}: {name} of {mode}", [0 if value is None else value for value in values])

    def measured(self, mode: str, name: str) -> NDArray[np.float64]:
        """[tasks], NaN where a board has no value."""
        return np.array(self.measures[mode][name], np.float64)

    def success(self, mode: str) -> NDArray[np.float64]:
        """success@1..K of each board, [tasks, K]; of `attempts` the unbiased pass@k."""
        at = np.array([DIGITS.index(digit) for digit in self.modes[mode]])
        if mode == ATTEMPTS:
            return pass_at(np.arange(self.episodes) < at[:, None])
        return np.asarray((at[:, None] > 0) & (at[:, None] <= 1 + np.arange(self.episodes)), np.float64)


@dataclass(frozen=True)
class CellResult:
    study: str
    part: str
    arm: str
    seed: int
    settings: dict[str, Any]  # dotted key -> value, those that decide the numbers
    splits: dict[str, Played]  # valid, test
    budget: dict[str, float] = field(default_factory=dict)  # episodes, tokens, updates, seconds of training
    evaluation: dict[str, float] = field(default_factory=dict)  # seconds, cpu_seconds
    curve: dict[str, list[Any]] = field(default_factory=dict)  # iteration, success_at, entropy
    notes: dict[str, list[Any]] = field(
        default_factory=dict
    )  # of training, where asked: measures.of_training
    facts: dict[str, str] = field(default_factory=dict)  # commit, version, processor, date
    run: str = ""  # folder of the run, where it was trained
    shown: str = ""  # folder with a page of some trials on `test`

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json_text({"format": FORMAT, **asdict(self)}, separators=COMPACT) + "\n")

    @classmethod
    def read(cls, path: Path) -> CellResult:
        """Raises ValueError naming a file that is none."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
            if (found := values.pop("format")) != FORMAT:
                raise ValueError(f"it has format {found}, this version reads {FORMAT}")
            splits = {name: Played(**played) for name, played in values.pop("splits").items()}
            for name in ("valid", "test"):
                splits[name].check(name)
            if (valid := {*splits["valid"].modes}) != (test := {*splits["test"].modes}):
                raise ValueError(f"valid has the modes {sorted(valid)}, test {sorted(test)}")
            for name in ("settings", "budget", "evaluation", "curve", "notes", "facts"):
                if not isinstance(values.get(name, {}), dict):
                    raise ValueError(f"{name} = {values[name]!r}, must be an object")
            for name in ("budget", "evaluation"):
                numbers(name, values.get(name, {}).values())
            for name in ("curve", "notes"):
                if len({len(points) for points in values.get(name, {}).values()}) > 1:
                    raise ValueError(f"{name} has lists of unlike lengths")
            return cls(splits=splits, **values)
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is no result of a cell: {error}") from None


def numbers(what: str, values: Iterable[Any]) -> None:
    """Raises ValueError unless all are finite numbers."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{what} has {value!r}, must be a finite number")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def changed(found: CellResult, cell: Cell) -> str:
    """The first setting that differs from what the study asks now, or an empty text."""
    if (other := difference(found.settings, cell.settings())) is None:
        return ""
    key, before, now = other
    return f"{key} was {before!r}, the study says {now!r}"


def digits_of(found: Evaluation) -> dict[str, str]:
    """Mode "" (trials) and `attempts` of an evaluation with its boards."""
    assert found.by_task is not None
    within, passes = np.array(found.by_task.trial), np.array(found.by_task.independent)
    K = within.shape[1]
    won = np.where(within[:, -1] > 0, K + 1 - within.sum(axis=1), 0).round().astype(int)
    digits = {"": "".join(DIGITS[w] for w in won)}
    if passes.size:
        count = (passes[:, 0] * passes.shape[1]).round().astype(int)
        digits[ATTEMPTS] = "".join(DIGITS[c] for c in count)
    return digits


def curve_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What is drawn of training, rounded, at most CURVE_POINTS of its iterations."""
    every = -(-len(metrics) // CURVE_POINTS) if metrics else 1
    kept = metrics[every - 1 :: every]
    return {
        "iteration": [m["iteration"] + 1 for m in kept],
        "success_at": [[_rounded(x) for x in m["success_at"]] for m in kept],
        "entropy": [_rounded(m["entropy"]) for m in kept],
    }


def _rounded(value: float | None) -> float | None:
    """None for what no JSON file can hold: an iteration that trained nothing has no entropy."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
