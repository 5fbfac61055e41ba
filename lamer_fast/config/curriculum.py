"""Curriculum: boards of a run's first iterations, as `train.curriculum` names them in stages.

    [train.curriculum.easy]          # in a recipe: a table for each, of options of the environment
    num_mines = 3
    until = 20                       # over when so many iterations of the run are

    [train.curriculum.middle]
    num_mines = 4
    success = 0.7                    # or when its trials have won so often in its last WINDOW iterations

    --train.curriculum "easy: num_mines=3 until=20; middle: num_mines=4 success=0.7"    # the same as one text

What a stage does not name is as in the recipe, whose own boards are played from the end of the last stage on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lamer_fast.config.panels import options_of, parts_of
from lamer_fast.envs.options import EnvOptions

KEY = "train.curriculum"
WINDOW = 3  # iterations of a stage over which `success` is a mean


@dataclass(frozen=True)
class Stage:
    name: str
    text: str  # what differs from the recipe
    env: EnvOptions
    until: int | None  # iterations of the run
    success: float | None  # share of trials that were won within their K episodes

    def __str__(self) -> str:
        ends = [f"until iteration {self.until}"] if self.until else []
        ends += [f"until success {self.success:g}"] if self.success else []
        return f"{self.name} ({', '.join([self.text or 'as in the recipe', *ends])})"


def stages_of(text: str | None, env: EnvOptions) -> list[Stage]:
    """The stages of `train.curriculum`, their options validated.

    Raises:
        ValueError: it cannot be read, a stage has no end or one that is over before it begins, or names an
            option that the environment lacks, or a value it refuses.
    """
    found: list[Stage] = []
    for name, values in parts_of(text or "", KEY):
        try:
            found.append(_stage(name, values, env))
        except ValueError as error:
            raise ValueError(f"{KEY}, {name!r}: {error}") from None
    last = 0
    for stage in found:
        if stage.until is not None and stage.until <= last:
            raise ValueError(
                f"{KEY}, {stage.name!r}: until = {stage.until}, but a stage before it lasts until {last}"
            )
        last = stage.until or last
    return found


def _stage(name: str, values: Mapping[str, str], env: EnvOptions) -> Stage:
    own = dict(values)
    until, success = own.pop("until", None), own.pop("success", None)
    if until is None and success is None:
        raise ValueError("it has no end: until = ITERATIONS, or success = SHARE, or both")
    if until is not None and (not until.isdecimal() or int(until) < 1):
        raise ValueError(f"until = {until!r}, must be a number of iterations, at least 1")
    share = None if success is None else _share(success)
    if "name" in own:
        raise ValueError("name: all stages are of one environment")
    text = ", ".join(f"{key} {value}" for key, value in own.items())
    return Stage(name, text, options_of(own, env), None if until is None else int(until), share)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ValueError(f"success = {text!r}, must be a share above 0 and at most 1")
    return share
