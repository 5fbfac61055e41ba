"""A study's TOML file -> `Study`; every key that it does not know is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.study.extend import extended
from lamer_fast.study.measures import KINDS
from lamer_fast.study.on_model import GROUPS, on_model
from lamer_fast.study.spec import ATTEMPTS, ROLES, Arm, Mode, Part, Study

STUDIES = Path(__file__).parent / "studies"
SECTIONS = tuple(field.name for field in fields(Config) if field.name != "name")
LABS = ("gradient",)  # shipped files of another kind: `gradient/lab.py` reads them


def names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.toml") if path.stem not in LABS)


def load(source: str, model: str = "") -> Study:
    """A shipped study's name, or a TOML file, which may extend another one.

    Args:
        model: what it is run on in place of the recipes' own, as `on_model.py` has it; empty: those.

    Raises:
        ValueError: no such study or model, or a key that it does not know; names it.
    """
    table, name, left_out = table_of(source), Path(source).stem, ""
    try:
        if model:
            for group in GROUPS:
                tables_in(group, table.get(group, {}))
            table, left_out = on_model(table, model, SECTIONS)
            name = f"{name}-{Path(model).name.removesuffix('.toml')}"
        return replace(_study(name, table), model=model, left_out=left_out)
    except ValueError as error:
        raise ValueError(f"study {source!r}: {error}") from None


def table_of(source: str) -> dict[str, Any]:
    """What a study's file says, with what it extends. Raises ValueError if it cannot be read."""
    return extended(source, {name: STUDIES / f"{name}.toml" for name in (*names(), *LABS)}, "study")


def _study(name: str, table: Mapping[str, Any]) -> Study:
    keys = {"question", "seeds", "tasks", "against", "parts", "arms", "modes", "measures"}
    keys |= set(SECTIONS)
    known_keys("", table, keys)
    for key in ("question", "seeds", "parts", "arms"):
        if key not in table or table[key] in ("", {}):
            raise ValueError(f"{key} is missing")
    parts = {n: _part(n, p) for n, p in tables_in("parts", table["parts"]).items()}
    modes = {n: _mode(n, m) for n, m in tables_in("modes", table.get("modes", {"trials": {}})).items()}
    known = {"parts": parts, "modes": [*modes, ATTEMPTS]}
    arms = {n: _arm(n, a, known) for n, a in tables_in("arms", table["arms"]).items()}
    for part in parts.values():
        for arm in part.published:
            if arm not in arms:
                raise ValueError(
                    f"parts.{part.name}.published names no arm: {arm}; there are: {', '.join(arms)}"
                )
    against = table.get("against", next(iter(arms)))
    if against not in arms:
        raise ValueError(f"against = {against!r} is no arm; there are: {', '.join(arms)}")
    return Study(
        name, _text("question", table), parts, arms, modes, _seeds("seeds", table["seeds"]),
        settings_of_table(table), against, _tasks("tasks", table.get("tasks")),
        _words("measures", table.get("measures", []), KINDS),
    )  # fmt: skip


def _part(name: str, table: Mapping[str, Any]) -> Part:
    _name("part", name)
    known_keys(f"parts.{name}", table, {"recipe", "evaluate", "tasks", "published", *SECTIONS})
    if "recipe" not in table:
        raise ValueError(f"parts.{name}.recipe is missing")
    evaluate = dict(_table(f"parts.{name}.evaluate", table.get("evaluate", {})))
    known_keys(f"parts.{name}.evaluate", evaluate, {"env", "rollout", "eval"})
    where = f"parts.{name}.published"
    published = _published(where, _table(where, table.get("published", {})))
    return Part(
        name, _text("recipe", table, f"parts.{name}"), settings_of_table(table, f"parts.{name}"),
        settings_of_table(evaluate, f"parts.{name}.evaluate"),
        _tasks(f"parts.{name}.tasks", table.get("tasks")), published,
    )  # fmt: skip


def _published(where: str, table: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    found = {}
    for arm, values in table.items():
        if not isinstance(values, list) or not all(isinstance(value, (int, float)) for value in values):
            raise ValueError(f"{where}.{arm} = {values!r}, must be a list of success@1..K in percent")
        found[arm] = tuple(float(value) for value in values)
    return found


def _arm(name: str, table: Mapping[str, Any], known: Mapping[str, Collection[str]]) -> Arm:
    """`known`: parts and modes of the study, which an arm may be confined to."""
    _name("arm", name)
    keys = {"doc", "trained", "searched", "seeds", "budget", "prompts", *known, *SECTIONS}
    known_keys(f"arms.{name}", table, keys)
    seeds, prompts = table.get("seeds"), table.get("prompts")
    if prompts not in (None, "full", "compact"):
        raise ValueError(f"arms.{name}.prompts = {prompts!r}, must be one of: full, compact")
    trained = table.get("trained", True)
    if not isinstance(trained, bool):
        raise ValueError(f"arms.{name}.trained = {trained!r}, must be true or false")
    confined = {
        key: None if key not in table else _words(f"arms.{name}.{key}", table[key], names_there)
        for key, names_there in known.items()
    }
    if confined["parts"] == ():
        raise ValueError(f"arms.{name}.parts = [], it would run on none; leave the arm out")
    doc, searched, budget = (_text(key, table, f"arms.{name}") for key in ("doc", "searched", "budget"))
    return Arm(
        name, doc, settings_of_table(table, f"arms.{name}"), trained, searched,
        None if seeds is None else _seeds(f"arms.{name}.seeds", seeds), budget, prompts=prompts, **confined,
    )  # fmt: skip


def _mode(name: str, table: Mapping[str, Any]) -> Mode:
    _name("mode", name)
    if name == ATTEMPTS:
        raise ValueError(f"mode {ATTEMPTS!r} is there by itself: independent attempts beside each evaluation")
    phases = ("explorer", "reflector", "player")
    known_keys(f"modes.{name}", table, {"doc", "eval", *phases})
    roles = {phase: str(table[phase]) for phase in phases if phase in table}
    for phase, role in roles.items():
        known = [r for r in ROLES if (phase, r) != ("reflector", "random")]
        if role not in known:
            raise ValueError(f"modes.{name}.{phase} = {role!r}, must be one of: {', '.join(known)}")
    return Mode(name, _text("doc", table, f"modes.{name}"), settings_of_table(table, f"modes.{name}"), roles)


def _words(where: str, value: Any, known: Collection[str]) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where} = {value!r}, must be a list of: {', '.join(known)}")
    for word in value:
        if word not in known:
            raise ValueError(f"{where} has {word!r}; there are: {', '.join(known)}")
    return tuple(value)


def _text(key: str, table: Mapping[str, Any], where: str = "") -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{where}{'.' if where else ''}{key} = {value!r}, must be a text")
    return value


def _tasks(where: str, value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"{where} = {value!r}, must be a number of boards from 1 up")
    return value


def _table(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} = {value!r}, must be a table")
    return value


def _name(what: str, name: str) -> None:
    if not (name.isascii() and name.replace("_", "").isalnum()):
        raise ValueError(
            f"{what} {name!r}: a name is letters, digits and _, in ASCII (it is part of file names)"
        )


def known_keys(where: str, table: Mapping[str, Any], keys: set[str]) -> None:
    for key in table:
        if key not in keys:
            dotted = f"{where}.{key}" if where else key
            raise ValueError(f"unknown key {dotted!r}{recipe.nearest(key, sorted(keys))}")


def tables_in(where: str, value: Any) -> Mapping[str, Mapping[str, Any]]:
    """`value` as a table of tables. Raises ValueError naming what is none."""
    found = _table(where, value)
    for key, entry in found.items():
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where}{'.' if where else ''}{key} = {entry!r}, must be a table")
    return found


def settings_of_table(table: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Sections of a table as one flat mapping: "env.height" -> 3. `where` the table stands, for errors."""
    own = {section: table[section] for section in SECTIONS if section in table}
    if "seed" in tables_in(where, own).get("train", {}):
        dotted = f"{where}.train.seed" if where else "train.seed"
        raise ValueError(
            f"{dotted} = {own['train']['seed']!r} has no effect; `seeds` of study or arm does it"
        )
    return {f"{section}.{key}": v for section, t in tables_in(where, own).items() for key, v in t.items()}


def _seeds(where: str, seeds: Any) -> tuple[int, ...]:
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds) or not seeds:
        raise ValueError(f"{where} = {seeds!r}, must be a list of numbers from 0 up")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{where} = {seeds!r} names a seed twice")
    return tuple(seeds)
