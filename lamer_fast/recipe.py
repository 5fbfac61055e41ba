"""Recipe file + dotted overrides -> validated Config. A recipe holds only what differs from the defaults."""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lamer_fast.config import Config

RECIPES = Path(__file__).parent / "recipes"


def resolve(recipe: str, overrides: Sequence[str] = ()) -> Config:
    """The validated configuration of a recipe with command line overrides.

    Args:
        recipe: a shipped recipe's name, or the path of a TOML file.
        overrides: `["--algo.gamma-step", "0.95", "--name=first"]`; later ones win.

    Raises:
        ValueError: no such recipe, unknown key (with the nearest name), wrong type, contradictory values.
    """
    values = load_recipe(recipe)
    values.update(parse_overrides(overrides))
    config = apply(Config(name=Path(recipe).stem), values)
    config.validate()
    return config


def names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(recipe: str) -> dict[str, Any]:
    """Dotted key -> value, as written in the file."""
    path = Path(recipe) if recipe.endswith(".toml") else RECIPES / f"{recipe}.toml"
    if not path.is_file():
        raise ValueError(f"no recipe {recipe!r}{_nearest(recipe, names())}; there are: {', '.join(names())}")
    try:
        with path.open("rb") as file:
            return _flatten(tomllib.load(file))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`--a.b-c VALUE` and `--a.b-c=VALUE` -> {"a.b_c": "VALUE"}; values stay strings, `apply` types them."""
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise ValueError(f"expected --key value, found {argument!r}")
        key, equals, value = argument[2:].partition("=")
        if not equals:
            if not rest:
                raise ValueError(f"--{key} has no value")
            value = rest.pop(0)
        values[key.replace("-", "_")] = value
    return values


def apply(config: Config, values: dict[str, Any]) -> Config:
    """The configuration with `values` (dotted key -> typed value or string) put in; not validated."""
    types_ = key_types()
    for key, value in values.items():
        if key not in types_:
            raise ValueError(f"unknown key {key!r}{_nearest(key, list(types_))}")
        section, _, name = key.rpartition(".")
        typed = _convert(key, value, types_[key])
        if section:
            config = replace(config, **{section: replace(getattr(config, section), **{name: typed})})
        else:
            config = replace(config, **{name: typed})
    return config


def key_types() -> dict[str, Any]:
    """Dotted key -> annotation, of every setting there is."""
    result: dict[str, Any] = {}
    for name, annotation in get_type_hints(Config).items():
        if is_dataclass(annotation):
            for inner, inner_annotation in get_type_hints(annotation).items():
                result[f"{name}.{inner}"] = inner_annotation
        else:
            result[name] = annotation
    return result


def to_flat(config: Config) -> dict[str, Any]:
    """Dotted key -> value; `apply(Config(), to_flat(config)) == config`."""
    result: dict[str, Any] = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            result.update({f"{f.name}.{g.name}": getattr(value, g.name) for g in fields(value)})
        else:
            result[f.name] = value
    return result


def _flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _nearest(word: str, choices: list[str]) -> str:
    """`, did you mean ...?`; a bare or misplaced name finds its dotted key too."""
    tail = word.rpartition(".")[2]
    found = [c for c in choices if c.rpartition(".")[2] == tail][:1] or difflib.get_close_matches(
        word, choices, 1
    )
    if not found:
        by_tail = {c.rpartition(".")[2]: c for c in choices}
        found = [by_tail[t] for t in difflib.get_close_matches(tail, list(by_tail), 1)]
    return f", did you mean {found[0]!r}?" if found else ""


def _convert(key: str, value: Any, annotation: Any) -> Any:
    """`value` (a TOML value, or a string of the command line) as the field's type, or ValueError."""
    if get_origin(annotation) in (Union, types.UnionType):  # only `X | None` occurs
        if value is None:  # a default, read back from config.json
            return None
        (annotation,) = (a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Literal:
        if value not in get_args(annotation):
            choices = ", ".join(get_args(annotation))
            raise ValueError(f"{key} = {value!r}, must be one of: {choices}")
        return value
    typed: Any = None
    if annotation is bool:
        typed = {"true": True, "false": False}.get(str(value).lower())
    elif annotation is int and not isinstance(value, bool):
        typed = _number(int, value.replace("_", "") if isinstance(value, str) else value)
    elif annotation is float and not isinstance(value, bool):
        typed = _number(float, value)
    elif annotation is str and isinstance(value, str):
        typed = value
    if typed is None:
        raise ValueError(f"{key} = {value!r}, must be {annotation.__name__}")
    return typed


def _number(kind: type, value: Any) -> Any:
    if kind is int and isinstance(value, float):
        return None
    try:
        return kind(value)
    except (TypeError, ValueError):
        return None
