"""From `env.name` to an environment: the games of this package, or `package.module:factory` of a user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.check import check_env
from lamer_fast.envs.contract import EnvError, describe
from lamer_fast.envs.factory import load
from lamer_fast.envs.options import EnvOptions, PoolOptions
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.plugins import full_name, registered

# name -> module with an ENTRY; the one line that a new game needs
NATIVE = {
    "minesweeper": "lamer_fast.envs.native.minesweeper",
    "sokoban": "lamer_fast.envs.native.sokoban",
}
WORLDS = {  # of other packages, which their modules import when they play
    "alfworld": "lamer_fast.envs.adapters.alfworld.entry",
    "gymnasium": "lamer_fast.envs.adapters.gymnasium",
    "reasoning-gym": "lamer_fast.envs.adapters.reasoning_gym",
    "textarena": "lamer_fast.envs.adapters.textarena",
    "textworld": "lamer_fast.envs.adapters.textworld",
    "webshop": "lamer_fast.envs.adapters.webshop",
}
GAMES = NATIVE | WORLDS


def entry(name: str) -> Any:
    """The Entry that `env.name` calls; ValueError where there is none."""
    if ":" in name:
        return load(name)
    if name not in GAMES:
        if (full := full_name("env.name", name)) != name:
            return load(full)
        known = ", ".join([*GAMES, *registered("env.name")])
        raise ValueError(
            f"env.name = {name!r}, must be one of: {known}; or package.module:factory of your own"
        )
    return import_module(GAMES[name]).ENTRY


def option_classes() -> dict[str, type[EnvOptions]]:
    return {name: entry(name).options for name in GAMES}


def default_options(name: str) -> EnvOptions:
    options: EnvOptions = replace(entry(name).options(), name=name)
    return options


def renamed(options: EnvOptions, name: str) -> EnvOptions:
    """The options of environment `name`; what was set of those that both have a name for stays so."""
    new = default_options(name)
    known = {f.name for f in fields(new)} - {"name"}
    given = {f.name: getattr(options, f.name) for f in fields(options) if f.name in known}
    return replace(
        new, **{key: value for key, value in given.items() if value != getattr(type(options), key)}
    )


def make_env(options: EnvOptions, num_envs: int, *, split: str | None) -> TextBatchEnv:
    """`num_envs` boards of one split, of the environment that the options are of."""
    env: TextBatchEnv = entry(options.name).make(options, num_envs, split)
    return env


def eval_seeds(
    options: EnvOptions, split: str, count: int | None, *, at_most: int | None = None
) -> NDArray[np.uint64]:
    """Seeds of boards with distinct tasks of `split`; `count` None is all there are, up to `at_most`."""
    game = entry(options.name)
    try:
        if count is None and at_most is not None:
            available = game.num_tasks(options, split)
            # near their number the last distinct ones are hard to draw: then all of them are listed
            count = at_most if available is None or available >= 2 * at_most else None
        seeds: Any = game.seeds(options, split, count)
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvError(f"the seeds of {options.name} for split {split}: {describe(error)}") from error
    if not isinstance(seeds, np.ndarray) or seeds.dtype != np.uint64 or seeds.ndim != 1 or not len(seeds):
        raise EnvError(f"seeds() of {options.name} for split {split} returned no seeds, expected [n] uint64")
    chosen: NDArray[np.uint64] = seeds[:at_most] if at_most is not None else seeds
    return chosen


def summary(values: Mapping[str, Any]) -> str:
    """The task in a few words, from a run's settings (dotted key -> value). Imports nothing of a user's."""
    name = str(values["env.name"])
    own = {key.removeprefix("env."): value for key, value in values.items() if key.startswith("env.")}
    if name not in GAMES:
        facts = ", ".join(f"{key} {value}" for key, value in own.items() if key not in _COMMON)
        return f"{name} ({facts})" if facts else name
    text: str = entry(name).summary(options_from(own))
    return text


def options_from(values: Mapping[str, Any]) -> EnvOptions:
    """The options of environment `values["name"]`; what it has no name for is left out."""
    options = default_options(values["name"])
    return replace(options, **{f.name: values[f.name] for f in fields(options) if f.name in values})


_COMMON = {f.name for f in fields(PoolOptions)}


def check_at_start(options: EnvOptions) -> None:
    """Plays two boards of their own for a moment: an environment that breaks the protocol costs no time.

    Raises:
        EnvError: the first violation that `check_env` finds, and how many there are.
    """
    found = check_env(make_env(options, 2, split="train"), quick=True, num_turns=4)
    if found:
        more = f" (the first of {len(found)} that check_env finds)" if len(found) > 1 else ""
        raise EnvError(f"env.name = {options.name!r} breaks the protocol of environments: {found[0]}{more}")
