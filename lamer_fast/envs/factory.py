"""A user's own environment, `package.module:factory`: found, its options read, its boards made.

    @dataclass(frozen=True)
    class Options:
        size: Annotated[int, Range(2, 9)] = 4
        \"\"\"Rows of the board.\"\"\"

    def make(options: Options, num_envs: int) -> TextBatchEnv: ...

A last parameter `split` says that the environment keeps train, valid and test apart itself. Without the
parameter `num_envs` it makes a single board, a `TextEnv` (the name may be that of its class), and the boards
play in worker processes. Instead of a function the name may be that of an `Entry`, which knows its tasks too.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from lamer_fast.envs.contract import EnvError, check_members, describe
from lamer_fast.envs.entry import Entry
from lamer_fast.envs.options import EnvOptions, PoolOptions
from lamer_fast.envs.pool import AsyncEnvPool, EnvPool
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.envs.splits import SplitEnv
from lamer_fast.fields import settings_of, to_flat

KINDS = (bool, int, float, str)


@cache
def load(name: str) -> Entry:
    """The environment that a user's module names.

    Raises:
        ValueError: no such module or name in it, it cannot be imported, or its options cannot be read.
    """
    found = find(name)
    if isinstance(found, Entry):
        _check_options(name, found.options)
        return found
    if not callable(found):
        raise ValueError(f"env.name = {name!r} is {type(found).__name__}, expected a function or an Entry")
    parameters = list(inspect.signature(found).parameters)
    if len(parameters) == 1 or parameters[1:] == ["split"]:
        return SingleEntry(name, found)
    return FactoryEntry(name, found)


class FactoryEntry(Entry):
    """What is known of an environment whose boards a function makes."""

    common: type[EnvOptions] = EnvOptions
    takes: tuple[str, ...] = ("options", "num_envs", "split")

    def __init__(self, name: str, factory: Callable[..., Any]) -> None:
        self.name, self.factory = name, factory
        parameters = list(inspect.signature(factory).parameters)
        if len(parameters) not in (len(self.takes) - 1, len(self.takes)):
            raise ValueError(
                f"env.name = {name!r} takes ({', '.join(parameters)}), expected (options, num_envs) or "
                "(options, num_envs, split); for a single board (options) or (options, split)"
            )
        self.takes_split = len(parameters) == len(self.takes)
        try:
            described: Any = factory
            hints = get_type_hints(described.__init__ if isinstance(factory, type) else described)
            annotation = hints.get(parameters[0], self.common)
        except Exception as error:
            raise ValueError(
                f"env.name = {name!r}: its annotations cannot be read, {describe(error)}"
            ) from None
        self.options = _with_common(name, annotation, self.common)
        _check_options(name, self.options)

    @property
    def doc(self) -> str:
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    def make(self, options: Any, num_envs: int, split: str | None = None) -> TextBatchEnv:
        arguments = (options, num_envs, split) if self.takes_split else (options, num_envs)
        try:
            env: Any = self.factory(*arguments)
        except (Exception, SystemExit) as error:
            raise EnvError(f"env.name = {self.name!r} {describe(error)}") from error
        check_members(env)
        got = getattr(env, "num_envs", None)
        if got != num_envs:
            raise EnvError(
                f"env.name = {self.name!r} made an environment of {got} boards, asked for {num_envs}"
            )
        made: TextBatchEnv = env if self.takes_split or split is None else SplitEnv(env, split)
        return made

    def summary(self, options: Any) -> str:
        own = {k: v for k, v in to_flat(options).items() if k not in _COMMON}
        return f"{self.name} ({', '.join(f'{k} {v}' for k, v in own.items())})" if own else self.name


class SingleEntry(FactoryEntry):
    """What is known of an environment that is made board by board."""

    common = PoolOptions
    takes = ("options", "split")

    def board(self, options: Any, split: str | None) -> Any:
        """One board, in a worker process."""
        return self.factory(options, split) if self.takes_split else self.factory(options)

    def make(self, options: Any, num_envs: int, split: str | None = None) -> TextBatchEnv:
        kind = EnvPool if options.wait_for_all else AsyncEnvPool
        env = kind(options, num_envs, split if self.takes_split else None)
        made: TextBatchEnv = env if self.takes_split or split is None else SplitEnv(env, split)
        return made


_COMMON = {f.name for f in fields(PoolOptions)}


def find(name: str, key: str = "env.name") -> Any:
    """What `module:attribute` names, from any module here or installed; `key` is the setting that says so.

    Raises:
        ValueError: no such module or name in it, or it cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that nothing there hides a module of somebody else
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        why = "no such module here or installed" if missing else f"importing it {describe(error)}"
        raise ValueError(f"{key} = {name!r}: {why}") from None
    if not hasattr(module, attribute):
        has = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise ValueError(f"{key} = {name!r}: {module_name} has no {attribute!r}, but {', '.join(has)}")
    return getattr(module, attribute)


def _with_common(name: str, annotation: Any, common: type[EnvOptions]) -> type[EnvOptions]:
    """The user's dataclass of options, with those that every environment has."""
    if not (isinstance(annotation, type) and is_dataclass(annotation)):
        raise ValueError(
            f"env.name = {name!r}: its first parameter is {annotation!r}, expected a dataclass of options"
        )
    for field in fields(annotation):
        if field.default is MISSING:
            raise ValueError(
                f"env.name = {name!r}: its option {field.name!r} needs a default, which is no list"
            )
    if issubclass(annotation, common):
        return annotation
    if issubclass(common, annotation):
        return common
    own = {f.name for f in fields(annotation)}
    if issubclass(annotation, EnvOptions):
        own -= {f.name for f in fields(EnvOptions)}
    taken = sorted(own & {f.name for f in fields(common)})
    if taken:
        raise ValueError(f"env.name = {name!r}: the option {taken[0]!r} is one that every environment has")
    if not annotation.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(
            f"env.name = {name!r}: {annotation.__name__} must be frozen: @dataclass(frozen=True)"
        )
    return make_dataclass(annotation.__name__, [], bases=(annotation, common), frozen=True)


def _check_options(name: str, options: Any) -> None:
    for field in fields(options):
        if field.default is MISSING:
            raise ValueError(
                f"env.name = {name!r}: its option {field.name!r} needs a default, which is no list"
            )
    try:
        settings = settings_of(options)
    except Exception as error:
        raise ValueError(f"env.name = {name!r}: its options cannot be read, {describe(error)}") from None
    for key, setting in settings.items():
        if setting.kind not in KINDS:
            raise ValueError(
                f"env.name = {name!r}: its option {key!r} is of type {setting.kind}, expected bool, int, "
                "float, str or a Literal of words"
            )
        try:
            setting.check(setting.convert(setting.default))
        except ValueError as error:
            raise ValueError(f"env.name = {name!r}: the default of its option {error}") from None
