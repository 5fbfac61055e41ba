"""Panels: what `lamer-fast eval` plays beside a policy's own boards, as `eval.panels` names them.

    [eval.panels.harder]            # in a recipe: a table for each, of options of the environment
    num_mines = 6

    --eval.panels "harder: num_mines=6; unseen: split=valid"    # the same as one text

What a panel does not name is as in the recipe. `split` is that of its boards, by default that of the command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.registry import entry, renamed
from lamer_fast.fields import check_ranges, settings_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]*")


@dataclass(frozen=True)
class PanelConfig:
    name: str
    env: EnvOptions
    split: str | None  # None: that of the command


def panels_of(text: str | None, env: EnvOptions) -> list[PanelConfig]:
    """The panels of `eval.panels`, their options validated.

    Raises:
        ValueError: it cannot be read, names an option that the environment lacks, or a value it refuses.
    """
    found: dict[str, PanelConfig] = {}
    for name, values in _parts(text or ""):
        if name in found:
            raise ValueError(f"eval.panels names {name!r} twice")
        try:
            found[name] = _panel(name, values, env)
        except ValueError as error:
            raise ValueError(f"eval.panels, {name!r}: {error}") from None
    return list(found.values())


def panels_text(tables: Mapping[str, Any]) -> str:
    """The text for the tables of a recipe."""
    parts = []
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ValueError(f"eval.panels.{name} = {table!r}, must be a table of options")
        pairs = (f"{key}={shlex.quote(_written(value))}" for key, value in table.items())
        parts.append(f"{name}: {' '.join(pairs)}")
    return "; ".join(parts)


def _parts(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for part in filter(None, map(str.strip, text.split(";"))):
        name, colon, pairs = part.partition(":")
        if not colon or not NAME.fullmatch(name.strip()):
            raise ValueError(f"eval.panels has {part!r}, must be NAME: option=value ...")
        try:
            words = [word.partition("=") for word in shlex.split(pairs)]
        except ValueError as error:
            raise ValueError(f"eval.panels, {name!r}: {error}") from None
        wrong = [key for key, equals, _ in words if not equals]
        if wrong:
            raise ValueError(f"eval.panels, {name.strip()!r}: {wrong[0]!r} must be option=value")
        yield name.strip(), {key: value for key, _, value in words}


def _panel(name: str, values: Mapping[str, str], env: EnvOptions) -> PanelConfig:
    own = {key.removeprefix("env.").replace("-", "_"): value for key, value in values.items()}
    split = own.pop("split", None)
    if "name" in own:
        env = renamed(env, own.pop("name"))
    known = getattr(entry(env.name), "splits", SPLITS)
    if split is not None and split not in known:
        raise ValueError(f"split = {split!r}, must be one of: {', '.join(known)}")
    settings = settings_of(env)
    for key in own:
        if key not in settings:
            raise ValueError(f"{env.name} has no option {key!r}; it has: {', '.join(settings)}")
    env = replace(env, **{key: settings[key].convert(value) for key, value in own.items()})
    check_ranges(env)
    env.validate()
    return PanelConfig(name, env, split)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
