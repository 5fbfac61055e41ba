"""Recipe file + dotted overrides -> validated Config. A recipe holds only what differs from the defaults.

The same functions read the settings of a warm start: any dataclass will do (`lamer_fast.fields`).
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from lamer_fast import __version__
from lamer_fast.config import Config, curriculum, panels
from lamer_fast.config.panels import text_of
from lamer_fast.config.schema import KNOWN_ESTIMATORS, LOSSES
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.registry import GAMES, renamed
from lamer_fast.fields import settings_of, to_flat
from lamer_fast.plugins import full_name
from lamer_fast.strict_json import json_text

Settings = TypeVar("Settings")

NAME = "env.name"
OF_TABLES = (panels.KEY, curriculum.KEY)  # settings that a recipe writes as a table for each of their parts
# until 0.1 every run had the options of both games; a run of one has never looked at those of the other
OF_BOTH_GAMES = frozenset(
    f"env.{n}" for n in ("num_mines", "num_boxes", "min_moves", "max_moves", "moves_per_turn")
)

RECIPES = Path(__file__).parent / "recipes"
BY_TEMPERATURE = "training samples by temperature alone, since a cut distribution makes its ratios wrong"
# old key -> (key of now, why it moved, value at which an old file is read as before)
MOVED: dict[str, tuple[str, str, Any]] = {
    "rollout.top_p": ("eval.top_p", BY_TEMPERATURE, 1.0),
    "rollout.top_k": ("eval.top_k", BY_TEMPERATURE, 0),
}


def resolve(recipe: str, overrides: Sequence[str] = ()) -> Config:
    """The validated configuration of a recipe with command line overrides.

    Args:
        recipe: a shipped recipe's name, or the path of a TOML file.
        overrides: `["--algo.gamma-step", "0.95", "--name=first"]`; later ones win.

    Raises:
        ValueError: no such recipe, unknown key (with the nearest name), wrong type, contradictory values.
    """
    config = load(recipe, overrides)
    config.validate()
    return config


def load(recipe: str, overrides: Sequence[str] = ()) -> Config:
    """As `resolve`, not validated: an evaluation has fewer conditions than training."""
    name = Path(recipe).stem if recipe.endswith(".toml") else recipe
    return merge(Config(name=name), recipe_file(recipe), overrides)


def names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_file(recipe: str) -> Path:
    return toml_file(recipe, {name: RECIPES / f"{name}.toml" for name in names()}, "recipe")


def toml_file(source: str, shipped: Mapping[str, Path], what: str) -> Path:
    """The file of a shipped name, or `source` itself where it is a path (with a folder, or `.toml`)."""
    if source in shipped:
        return shipped[source]
    path = Path(source)
    if not source.endswith(".toml") and "/" not in source:
        known = ", ".join(sorted(shipped))
        raise ValueError(f"no {what} {source!r}{nearest(source, shipped)}; a TOML file, or one of: {known}")
    if not path.is_file():
        if (path / "config.json").is_file():
            how = "a run goes on by the command that began it"
            raise ValueError(f"{what} {source!r} is the folder of a run or a model; {how}")
        found = "is a folder, expected a TOML file" if path.is_dir() else "no such file"
        raise ValueError(f"{what} {source!r}: {found}; there are: {', '.join(sorted(shipped))}")
    return path


def merge(config: Settings, path: Path, overrides: Sequence[str]) -> Settings:
    """The values of a TOML file put into `config`, then those of a command line; not validated."""
    try:
        config = apply(config, read_toml(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return apply(config, parse_overrides(overrides))


def read_toml(path: Path) -> dict[str, Any]:
    """Dotted key -> value, as written in the file."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a TOML file, found bytes that are no text ({error.reason})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"not valid TOML: {error}") from None
    for section, name in (key.split(".") for key in OF_TABLES):
        own = table.get(section)
        if isinstance(own, dict) and name in own:
            own[name] = _read(f"{section}.{name}", own[name])
    return _flatten(table)


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


def apply(config: Settings, values: Mapping[str, Any]) -> Settings:
    """`config` with `values` (dotted key -> typed value or string) put in; not validated.

    `env.name` comes first: it decides which options `env.*` are.
    """
    env = getattr(config, "env", None)
    values = {key: _read(key, _registered(key, value)) for key, value in values.items()}
    if NAME in values and isinstance(env, EnvOptions):
        config = _put(config, ["env"], renamed(env, settings_of(config)[NAME].convert(values[NAME])))
    settings = settings_of(config)
    for key, value in values.items():
        if key not in settings:
            raise _unknown(key, settings, config)
        config = _put(config, key.split("."), settings[key].convert(value))
    return config


def _registered(key: str, value: Any) -> Any:
    """`module:function` for a name that an installed package has registered; ours come first."""
    ours = {NAME: tuple(GAMES), "algo.loss": LOSSES, "algo.estimator": KNOWN_ESTIMATORS}.get(key)
    return value if ours is None or value in ours else full_name(key, str(value))


def _read(key: str, value: Any) -> Any:
    """The text of a prompt's file, which the run then has as its own, or of tables; any other value as is."""
    if key in OF_TABLES and isinstance(value, Mapping) and value:
        return text_of(value, key)
    if key not in ("rollout.reflect_prompt", "rollout.play_prompt") or not str(value).endswith(".txt"):
        return value
    try:
        return Path(value).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{key} = {value!r} cannot be read: {error}") from None


def _unknown(key: str, settings: Mapping[str, Any], config: Any) -> ValueError:
    of_env = ""
    if key.startswith("env.") and isinstance(getattr(config, "env", None), EnvOptions):
        own = ", ".join(k.removeprefix("env.") for k in settings if k.startswith("env."))
        of_env = f"; {config.env.name} has: {own}"
    return ValueError(moved(key) or f"unknown key {key!r}{nearest(key, settings)}{of_env}")


def to_json(config: Config) -> str:
    """What a run's config.json holds: every setting, and the version that wrote it."""
    return json_text({"version": __version__} | to_flat(config), indent=1)


def read_config(path: Path) -> Config:
    """The configuration in a run's config.json; settings that it does not know yet have their defaults.

    Raises:
        ValueError: the file is damaged or is no run's, with its name.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged, expected the settings of a run as JSON: {error}") from None
    if not isinstance(values, dict) or "name" not in values:
        raise ValueError(f"{path} is not of a run: expected the settings of a run, found other JSON")
    values.pop("version", None)
    values = {k: v for k, v in values.items() if k not in MOVED or v != MOVED[k][2]}
    try:
        config = apply(Config(), {NAME: values.get(NAME, Config().env.name)})
        known = settings_of(config)
        return apply(config, {k: v for k, v in values.items() if k in known or k not in OF_BOTH_GAMES})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def moved(key: str) -> str:
    """What an old key is called now, and why; empty for any other."""
    return f"{key} is now {MOVED[key][0]}: {MOVED[key][1]}" if key in MOVED else ""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`, did you mean ...?`; a bare or misplaced name finds its dotted key too."""
    choices = list(choices)
    tail = word.rpartition(".")[2]
    found = [c for c in choices if c.rpartition(".")[2] == tail][:1]
    found = found or difflib.get_close_matches(word, choices, 1)
    if not found:
        by_tail = {c.rpartition(".")[2]: c for c in choices}
        found = [by_tail[t] for t in difflib.get_close_matches(tail, list(by_tail), 1)]
    return f", did you mean {found[0]!r}?" if found else ""


def _put(config: Any, names: list[str], value: Any) -> Any:
    name, *rest = names
    return replace(config, **{name: _put(getattr(config, name), rest, value) if rest else value})


def _flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
