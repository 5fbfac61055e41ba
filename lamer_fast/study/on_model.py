"""A study on another model: the settings of that model's file laid over those of the study.

A file of a model has sections as a recipe has, and `recipes`: the recipe of a part -> the one in its place.
What it says of an arm, a part or a mode counts where the study has one of that name. TAKEN_BACK in place of a
value drops what the study says there. Parts that cannot be played on the model are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lamer_fast.config import resolve as recipe
from lamer_fast.study.extend import extended, merged

MODELS = Path(__file__).parent / "models"
GROUPS = ("parts", "arms", "modes")
TAKEN_BACK = "recipe"  # the value is that of the recipe, or of the sections of the model's file

Table = Mapping[str, Any]


def names() -> list[str]:
    return sorted(path.stem for path in MODELS.glob("*.toml"))


def on_model(table: Table, source: str, sections: Collection[str]) -> tuple[dict[str, Any], str]:
    """(the study `table` for the model `source`, a shipped name or a TOML file; what is left out, and why).

    Raises:
        ValueError: no such model, a key that it does not know, no part that can be played on it.
    """
    over = extended(source, {path.stem: path for path in MODELS.glob("*.toml")}, "model")
    for key in over:
        if key not in {"recipes", *GROUPS, *sections}:
            raise ValueError(f"model {source!r}: unknown key {key!r}{recipe.nearest(key, sections)}")
    recipes, changes = over.pop("recipes", {}), {group: over.pop(group, {}) for group in GROUPS}
    found = dict(table)
    if "arms" in table:  # what was searched for an arm was searched on the study's own model
        found["arms"] = {name: _without(arm, "searched") for name, arm in table["arms"].items()}
    for group in (group for group in GROUPS if group in table):
        here = found[group]
        found[group] = {name: _laid_over(here[name], changes[group].get(name, {})) for name in here}
    parts = found.get("parts", {})
    why = {name: _why_not(part, changes["parts"].get(name, {}), recipes) for name, part in parts.items()}
    no_parts = {name: reason for name, reason in why.items() if reason}
    if no_parts and len(no_parts) == len(parts):
        raise ValueError(
            f"model {source!r} can play none of its parts: {_listed(no_parts)}; it has recipes in place of: "
            f"{', '.join(recipes) or 'none'}. A file of your own may add to its [recipes], or say "
            "parts.NAME.model.path"
        )
    found["parts"] = {n: p | {"recipe": recipes[p["recipe"]]} for n, p in parts.items() if n not in no_parts}
    arms = {name: _confined(arm, no_parts) for name, arm in found.get("arms", {}).items()}
    no_arms = {name: "none of its parts is left" for name, arm in arms.items() if arm is None}
    found["arms"] = {name: arm for name, arm in arms.items() if arm is not None}
    told = [f"{group} {_listed(left)}" for group, left in (("parts", no_parts), ("arms", no_arms)) if left]
    return _laid_over(found, over), "; ".join(told)


def _why_not(part: Table, change: Table, recipes: Table) -> str:
    """Why a part, with the `change` of the model's file, cannot be played on the model; empty: it can."""
    path = _path(part)
    if path is not None and _path(change) is None:
        return f"model.path = {path!r} is its own"
    return "" if part.get("recipe") in recipes else f"no recipe in place of {part.get('recipe')!r}"


def _path(part: Table) -> Any:
    model = part.get("model")
    return model.get("path") if isinstance(model, Mapping) else None


def _confined(arm: dict[str, Any], no_parts: Collection[str]) -> dict[str, Any] | None:
    """The arm without the parts that are left out; None: it was confined to these."""
    parts = arm.get("parts")
    if not isinstance(parts, list) or not parts:
        return arm
    left = [name for name in parts if name not in no_parts]
    return arm | {"parts": left} if left else None


def _laid_over(table: Table, change: Table) -> dict[str, Any]:
    """Merged, without what the change takes back."""
    return _taken_back(merged(table, change), change)


def _taken_back(table: Table, change: Table) -> dict[str, Any]:
    found = {}
    for key, value in table.items():
        said = change.get(key)
        if said != TAKEN_BACK:
            both = isinstance(value, dict) and isinstance(said, dict)
            found[key] = _taken_back(value, change[key]) if both else value
    return found


def _without(table: Table, key: str) -> dict[str, Any]:
    return {k: value for k, value in table.items() if k != key}


def _listed(left: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in left.items())
