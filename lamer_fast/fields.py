"""What a dataclass of settings says about itself: type, range, default and doc of each field. No torch here.

A field is `bool`, `int`, `float`, `str`, `Path` or a `Literal` of words, with `| None` where nothing may be
given and a `Range` where it is a number (or its text, "[0, 1]" or "[0, inf)", where this module is unknown):

    lr: Annotated[float, Range(0, 1)] = 1e-6
    \"\"\"Peak learning rate.\"\"\"

A field that is a dataclass itself is a section; the settings in it have dotted keys. An instance may hold
another dataclass there than its class names (an environment's own options): what stands there counts.
"""

import ast
import inspect
import math
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

MAX_INT = 2**63 - 1  # what numpy's and torch's counters hold


@dataclass(frozen=True)
class Range:
    """The closed range of a number. `high` None: up to `MAX_INT`, or any finite float."""

    low: float  # the least value
    high: float | None = None  # the greatest value

    def __post_init__(self) -> None:
        """Whole ends are ints, as equal ranges must read alike: `typing` gives one for the other."""
        for name, end in (("low", self.low), ("high", self.high)):
            if isinstance(end, float) and end.is_integer():
                object.__setattr__(self, name, int(end))

    def __str__(self) -> str:
        return f"at least {self.low}" if self.high is None else f"in [{self.low}, {self.high}]"

    @staticmethod
    def of(interval: "Range | str") -> "Range":
        if isinstance(interval, Range):
            return interval
        low, high = (float(end) for end in interval.strip("[])").split(","))
        return Range(low, None if interval.endswith(")") else high)


@dataclass(frozen=True)
class Setting:
    key: str
    kind: type  # bool, int, float, str or Path
    choices: tuple[str, ...]  # the words of a Literal, else empty
    optional: bool  # may be None
    range: Range | None
    default: Any

    def convert(self, value: Any) -> Any:
        """`value` (of TOML, JSON or a command line's string) in the field's type, or ValueError."""
        if value is None and self.optional:
            return None
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{self.key} = {value!r}, must be one of: {', '.join(self.choices)}")
            return value
        typed: Any = None
        if self.kind is bool:
            typed = {"true": True, "false": False}.get(str(value).lower())
        elif self.kind is int and not isinstance(value, bool | float):
            typed = _number(int, value.replace("_", "") if isinstance(value, str) else value)
        elif self.kind is float and not isinstance(value, bool):
            typed = _number(float, value)
        elif self.kind in (str, Path) and isinstance(value, str | Path):
            typed = self.kind(value)
        if typed is None:
            raise ValueError(f"{self.key} = {value!r}, must be {self.kind.__name__}")
        return typed

    def check(self, value: Any) -> None:
        """Raises ValueError when a number is out of range or not finite, or a text cannot be printed."""
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(f"{self.key} = {value!r} has characters that cannot be printed")
        if value is None or self.kind not in (int, float):
            return
        if self.kind is float and not math.isfinite(value):
            raise ValueError(f"{self.key} = {value}, must be a finite number")
        if self.kind is int and abs(value) > MAX_INT:
            raise ValueError(f"{self.key} = {value}, must be at most {MAX_INT}")
        if self.range is None:
            return
        if not self.range.low <= value <= (math.inf if self.range.high is None else self.range.high):
            raise ValueError(f"{self.key} = {value}, must be {self.range}")


def settings_of(config: Any) -> dict[str, Setting]:
    """Dotted key -> setting, in the order of the fields, of a dataclass or of an instance of one."""
    if isinstance(config, type):
        return _settings_of(config)
    found: dict[str, Setting] = {}
    own = _settings_of(type(config))  # type: ignore[arg-type]  # mypy doubts that a class can be hashed
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found |= _prefixed(field.name, settings_of(value))
        else:
            found[field.name] = own[field.name]
    return found


@cache
def _settings_of(cls: type[Any]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        annotation = hints[field.name]
        if is_dataclass(annotation):
            assert isinstance(annotation, type)
            found |= _prefixed(field.name, _settings_of(annotation))
        else:
            default = None if field.default is MISSING else field.default
            found[field.name] = _setting(field.name, annotation, default)
    return found


def _prefixed(section: str, settings: dict[str, Setting]) -> dict[str, Setting]:
    return {f"{section}.{key}": replace(s, key=f"{section}.{key}") for key, s in settings.items()}


def to_flat(config: Any) -> dict[str, Any]:
    """Dotted key -> value; `recipe.apply(Config(), to_flat(config)) == config`."""
    return {key: _get(config, key) for key in settings_of(config)}


def check_ranges(config: Any) -> None:
    """Raises ValueError naming the first value that its field does not allow."""
    for key, setting in settings_of(config).items():
        setting.check(_get(config, key))


def docs_of(cls: type) -> dict[str, str]:
    """Dotted key -> the text under its field, from the source."""
    found: dict[str, str] = {}
    hints = get_type_hints(cls)
    bases = [base for base in reversed(cls.__mro__) if is_dataclass(base)]
    for name, doc in (named for base in bases for named in _field_docs(base)):
        if name not in {field.name for field in fields(cls)}:
            continue  # of the class, not of its instances
        if is_dataclass(hints[name]):
            inner = hints[name]
            assert isinstance(inner, type)
            found |= {f"{name}.{key}": text for key, text in docs_of(inner).items()}
        else:
            found[name] = doc
    return found


def _field_docs(cls: type) -> Iterator[tuple[str, str]]:
    """Of the fields that the class itself names; empty where it has no source (a notebook's)."""
    own = inspect.get_annotations(cls)
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body if own else (None,)
    except (OSError, TypeError, SyntaxError):
        definition = None
    if definition is None:
        yield from dict.fromkeys(own, "").items()
        return
    assert isinstance(definition, ast.ClassDef)
    for statement, below in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            has_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            text = str(below.value.value) if has_text else ""  # type: ignore[union-attr]
            yield statement.target.id, inspect.cleandoc(text)


def _setting(key: str, annotation: Any, default: Any) -> Setting:
    optional, range_ = False, None
    while True:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            annotation = arguments[0]
            range_ = next((Range.of(a) for a in arguments[1:] if isinstance(a, Range | str)), range_)
        elif origin in (Union, types.UnionType):
            (annotation,) = (a for a in arguments if a is not type(None))  # only `X | None` occurs
            optional = True
        else:
            break
    if origin is Literal:
        return Setting(key, str, arguments, optional, range_, default)
    return Setting(key, annotation, (), optional, range_, default)


def _get(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def _number(kind: type, value: Any) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        return None
