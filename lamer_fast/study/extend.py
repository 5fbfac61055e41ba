"""TOML files that extend one another: studies, and the models that they run on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamer_fast.config import resolve as recipe


def extended(
    source: str, shipped: Mapping[str, Path], what: str, seen: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """What a file says, laid over what the one that it `extends` says.

    Args:
        source: a name of `shipped`, or a TOML file.
        what: the files' kind, for errors.
        seen: the files that extend this one.

    Raises:
        ValueError: no such file, no TOML, or it extends itself.
    """
    path = recipe.toml_file(source, shipped, what)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {path}: not valid TOML: {error}") from None
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ValueError(f"{what} {path}: extends = {base!r}, must be a name or a file")
    beside = path.parent / base
    seen = (*seen, path.resolve())
    if beside.resolve() in seen:
        raise ValueError(f"{what} {path}: extends {base!r}, which extends it")
    over = str(beside) if beside.is_file() else base
    try:
        recipe.toml_file(over, shipped, what)
    except ValueError as error:
        raise ValueError(f"{what} {path}: extends: {error}") from None
    return merged(extended(over, shipped, what, seen), table)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables within tables are merged as well; any other value of `over` takes the place of `base`'s."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found
