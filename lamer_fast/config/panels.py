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

KEY = "eval.panels"
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
    for name, values in parts_of(text or "", KEY):
        try:
            found[name] = _panel(name, values, env)
        except ValueError as error:
            raise ValueError(f"{KEY}, {name!r}: {error}") from None
    return list(found.values())


def text_of(tables: Mapping[str, Any], key: str) -> str:
    """The text for the tables of a recipe; `key` is the setting that they stand in."""
    parts = []
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ValueError(f"{key}.{name} = {table!r}, must be a table of options")
        pairs = (f"{key}={shlex.quote(_written(value))}" for key, value in table.items())
        parts.append(f"{name}: {' '.join(pairs)}")
    return "; ".join(parts)


def parts_of(text: str, key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The names in the text of setting `key`, each once, and what is said of each. Raises ValueError."""
    seen: set[str] = set()
    for part in filter(None, map(str.strip, text.split(";"))):
        name, colon, pairs = part.partition(":")
        if not colon or not NAME.fullmatch(name.strip()):
            raise ValueError(f"{key} has {part!r}, must be NAME: option=value ...")
        try:
            words = [word.partition("=") for word in shlex.split(pairs)]
        except ValueError as error:
            raise ValueError(f"{key}, {name!r}: {error}") from None
        wrong = [word for word, equals, _ in words if not equals]
        if wrong:
            raise ValueError(f"{key}, {name.strip()!r}: {wrong[0]!r} must be option=value")
        if name.strip() in seen:
            raise ValueError(f"{key} names {name.strip()!r} twice")
        seen.add(name.strip())
        yield name.strip(), {_option(word): value for word, _, value in words}


def _panel(name: str, values: Mapping[str, str], env: EnvOptions) -> PanelConfig:
    own = dict(values)
    split = own.pop("split", None)
    if "name" in own:
        env = renamed(env, own.pop("name"))
    known = getattr(entry(env.name), "splits", SPLITS)
    if split is not None and split not in known:
        raise ValueError(f"split = {split!r}, must be one of: {', '.join(known)}")
    return PanelConfig(name, options_of(own, env), split)


def options_of(values: Mapping[str, str], env: EnvOptions) -> EnvOptions:
    """`env` with some options, which are then validated."""
    settings = settings_of(env)
    for key in values:
        if key not in settings:
            raise ValueError(f"{env.name} has no option {key!r}; it has: {', '.join(settings)}")
    env = replace(env, **{key: settings[key].convert(value) for key, value in values.items()})
    check_ranges(env)
    env.validate()
    return env


def _option(word: str) -> str:
    return word.removeprefix("env.").replace("-", "_")


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
