"""What stands behind `lamer-fast COMMAND`: a target, the command's own flags, and settings as flags.

Own flags are the fields of a dataclass, as settings are: type, range, default and doc come from there. A bool
among them is a switch (`--dry-run`), everything else takes a value (`--runs FOLDER`, `--runs=FOLDER`). Flags
may stand before or behind the target, with `-` or `_` between words.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lamer_fast.config.resolve import apply, moved, nearest
from lamer_fast.fields import Setting, docs_of, settings_of


@dataclass(frozen=True)
class Target:
    """The one argument that is no flag."""

    name: str
    doc: str
    default: str | None = None  # None: it must be given
    words: Sequence[str] = ()  # that a shell completes, beside recipes and files


@dataclass(frozen=True)
class Command:
    name: str
    doc: str
    options: type  # dataclass of the own flags
    target: Target
    settings: type | None = None  # dataclass whose fields are flags too
    unused: Mapping[str, str] = field(
        default_factory=dict
    )  # setting or section that it ignores -> what to do
    short: Mapping[str, str] = field(default_factory=dict)  # flag -> the own flag that it stands for

    def parse(self, argv: Sequence[str]) -> tuple[str, Any, list[str]]:
        """(target, own flags, overrides for `recipe.resolve`). `-h` prints help and leaves with status 0.

        Raises:
            ValueError: unknown flag (with the nearest name), no value, wrong type, no target or one too many.
        """
        own, known = settings_of(self.options), self._known()
        values: dict[str, Any] = {}
        overrides, targets, rest = [], [], list(argv)
        while rest:
            flag, equals, value = (word := rest.pop(0)).partition("=")
            key = flag.removeprefix("--").replace("-", "_")
            key = self.short.get(key, key)
            if word in ("-h", "--help"):
                print(self.help())
                raise SystemExit(0)
            if not word.startswith("-"):
                targets.append(word)
                continue
            if not flag.startswith("--") or (key not in own | known and not self._is_variant(key)):
                raise self._unknown(flag, key)
            if key in own and own[key].kind is bool:
                value = value if equals else "true"
            elif not equals:
                if not rest or rest[0].startswith("--"):
                    raise ValueError(f"{flag} has no value")
                value = rest.pop(0)
            if key not in own:
                if key in known:
                    known[key].convert(value)
                overrides.append(f"--{key}={value}")
            else:
                setting = replace(own[key], key=flag)
                values[key] = setting.convert(value)
                setting.check(values[key])
        return self._one(targets), apply(self.options(), values), overrides

    def flags(self) -> dict[str, tuple[str, ...]]:
        """Every flag, as `--learn.max-grad-norm`, with its choices, if it has any."""
        found = {**settings_of(self.options), **self._known()}
        for section in {key.rpartition(".")[0] for key in found}:
            for cls in self._variants(section).values():
                found |= {f"{section}.{key}": setting for key, setting in settings_of(cls).items()}
        shown = {f"--{key.replace('_', '-')}": setting for key, setting in found.items()}
        return {flag: tuple(map(str, setting.choices or ())) for flag, setting in shown.items()}

    def help(self) -> str:
        target, docs = self.target, docs_of(self.options)
        shown = target.name if target.default is None else f"[{target.name}]"
        lines = [f"usage: lamer-fast {self.name} {shown} [--flag value ...]", "", *_fill(self.doc, 0)]
        lines += ["", f"  {target.name}", *_fill(target.doc, 6), *(["", "flags"] if docs else [])]
        for key, setting in settings_of(self.options).items():
            lines += _entry(setting, docs[key], switch=setting.kind is bool)
            words = [f"--{word.replace('_', '-')}" for word, full in self.short.items() if full == key]
            lines += [f"      Also: {word}" for word in words]
        docs = docs_of(self.settings) if self.settings else {}
        sections: dict[str, list[str]] = {}
        for key, setting in self._known().items():
            sections.setdefault(key.rpartition(".")[0], []).extend(_entry(setting, docs[key]))
        for section, entries in sections.items():
            lines += ["", f"settings: {section}" if section else "settings", *entries]
            for name, cls in self._variants(section).items():
                lines += [
                    "",
                    f"settings: {section}, of {name}",
                    *entries_beyond(settings_of(self.settings), section, cls),
                ]
        return "\n".join(lines)

    def _variants(self, section: str) -> Mapping[str, type]:
        """What may stand in a section in the place of its dataclass; which, only the recipe says."""
        variants: Mapping[str, Any] = getattr(self.settings, "VARIANTS", {})
        used = section in variants and section not in self.unused
        return variants[section]() if used else {}

    def _is_variant(self, key: str) -> bool:
        """A setting of such a section, for `recipe.resolve` to judge."""
        section, dot, name = key.partition(".")
        return bool(dot and name and self._variants(section))

    def _known(self) -> dict[str, Setting]:
        """The settings that are flags of this command."""
        settings = settings_of(self.settings) if self.settings else {}
        return {
            key: setting
            for key, setting in settings.items()
            if not {key, key.partition(".")[0]} & self.unused.keys()
        }

    def _unknown(self, flag: str, key: str) -> ValueError:
        for name in (key, key.partition(".")[0]):
            if name in self.unused and self.settings and key in settings_of(self.settings):
                return ValueError(f"{flag} has no effect on lamer-fast {self.name}: {self.unused[name]}")
        if moved(key):
            return ValueError(f"{flag}: {moved(key)}")
        shown = {f"--{k.replace('_', '-')}" for k in (settings_of(self.options) | self._known())}
        return ValueError(f"unknown flag {flag!r}{nearest(flag.replace('_', '-'), sorted(shown))}")

    def _one(self, targets: list[str]) -> str:
        if len(targets) > 1:
            raise ValueError(
                f"{targets[0]!r} and {targets[1]!r}: expected one {self.target.name}; a setting is written "
                "--section.key value"
            )
        if not targets and self.target.default is None:
            raise ValueError(f"{self.target.name} is missing: {self.target.doc}")
        return targets[0] if targets else str(self.target.default)


def entries_beyond(common: Mapping[str, Setting], section: str, cls: type) -> list[str]:
    """What the help says of the settings of a dataclass in a section, those of `common` left out."""
    docs, lines = docs_of(cls), []
    for name, setting in settings_of(cls).items():
        key = f"{section}.{name}"
        if key not in common:
            lines += _entry(replace(setting, key=key), docs[name])
    return lines


def _entry(setting: Setting, doc: str, *, switch: bool = False) -> list[str]:
    """`--key type (range; default)`, and its doc below."""
    kind = "{" + ",".join(setting.choices) + "}" if setting.choices else setting.kind.__name__.lower()
    facts = [] if setting.range is None else [str(setting.range)]
    facts += (
        []
        if setting.default in (None, "")
        else [f"default {str(setting.default).lower() if setting.kind is bool else setting.default}"]
    )
    name = f"  --{setting.key.replace('_', '-')}"
    return [
        name if switch else f"{name} {kind}  ({'; '.join(facts)})" if facts else f"{name} {kind}",
        *_fill(doc, 6),
    ]


def _fill(text: str, indent: int) -> list[str]:
    width = min(100, shutil.get_terminal_size().columns)
    pad = " " * indent
    return textwrap.wrap(text, width, initial_indent=pad, subsequent_indent=pad, break_on_hyphens=False)
