"""What was found in a cell, as a small JSON file; arms that are there are not measured again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lamer_fast.files import replace_file
from lamer_fast.strict_json import COMPACT, json_text
from lamer_fast.study.gradient.estimators import Estimator
from lamer_fast.study.gradient.lab import AnyCell, arm_settings
from lamer_fast.study.gradient.moments import Direction

FORMAT = 1
DIGITS = 5
Directions = Mapping[str, Mapping[str, Direction]]  # part of the policy -> against what -> found


@dataclass(frozen=True)
class OfArm:
    settings: dict[str, Any]
    claims: str  # the objective that it says it climbs
    parts: Directions  # of gradients
    turns: Directions = field(default_factory=dict)  # of advantages, where a language model was measured


@dataclass(frozen=True)
class Record:
    settings: dict[str, Any]  # of the cell: `Lab.settings`
    within: list[float]  # success@1..K of the policy, exactly
    counts: dict[str, int]  # boards, trials that can be played, parameters of the policy
    arms: dict[str, OfArm]
    cpu_seconds: float
    facts: dict[str, str]  # commit, device, date
    truth: dict[str, float] = field(default_factory=dict)  # spread and error of advantages by Monte Carlo

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json_text({"format": FORMAT, **rounded(asdict(self))}, separators=COMPACT) + "\n")


def rounded(value: Any) -> Any:
    """Ready for JSON, which has no NaN: what is not known is null."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    if not isinstance(value, float):
        return value
    return round(value, DIGITS) if math.isfinite(value) else None


def path_of(folder: Path, cell: AnyCell) -> Path:
    return folder / "cells" / f"{cell.name}.json"


def read(path: Path) -> Record | None:
    """None where there is no such file. Raises ValueError naming one that is no record."""
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError(f"this version reads format {FORMAT}")
        return Record(**values | {"arms": {name: _arm(arm) for name, arm in values["arms"].items()}})
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no record of a gradient lab: {error}") from None


def _arm(values: Mapping[str, Any]) -> OfArm:
    parts, turns = (_directions(values.get(key, {})) for key in ("parts", "turns"))
    return OfArm(values["settings"], values["claims"], parts, turns)


def _directions(values: Mapping[str, Any]) -> Directions:
    return {
        part: {name: Direction(**_known(found)) for name, found in against.items()}
        for part, against in values.items()
    }


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: math.nan if value is None else value for key, value in values.items()}


def missing(path: Path, settings: Mapping[str, Any], cell: AnyCell) -> list[Estimator]:
    """The arms of a cell that have no record yet.

    Raises:
        ValueError: what is there was made by other settings.
    """
    found = read(path)
    if found is None:
        return list(cell.arms)
    _same(path, found.settings, rounded(dict(settings)))
    for arm in cell.arms:
        if arm.name in found.arms:
            _same(path, found.arms[arm.name].settings, rounded(arm_settings(arm)), f"arm {arm.name}, ")
    return [arm for arm in cell.arms if arm.name not in found.arms]


def _same(path: Path, was: Mapping[str, Any], says: Mapping[str, Any], where: str = "") -> None:
    for key in sorted(was.keys() | says.keys()):
        if was.get(key) != says.get(key):
            raise ValueError(
                f"{path} was made by other settings: {where}{key} was {was.get(key)!r}, the lab says "
                f"{says.get(key)!r}. Move it away to run it again"
            )
