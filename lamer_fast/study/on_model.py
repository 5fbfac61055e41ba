"""A study on another model: the settings of that model's file laid over those of the study.

A file of a model has sections as a recipe has, and `recipes`: the recipe of a part -> the one in its place.
What it says of an arm, a part or a mode counts where the study has one of that name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lamer_fast.config import resolve as recipe
from lamer_fast.study.extend import extended, merged

MODELS = Path(__file__).parent / "models"
GROUPS = ("parts", "arms", "modes")


def names() -> list[str]:
    return sorted(path.stem for path in MODELS.glob("*.toml"))


def on_model(table: Mapping[str, Any], source: str, sections: Collection[str]) -> dict[str, Any]:
    """The study `table` for the model `source`, a shipped name or a TOML file.

    Raises:
        ValueError: no such model, a key that it does not know, a part whose recipe it has none for.
    """
    over = extended(source, {path.stem: path for path in MODELS.glob("*.toml")}, "model")
    for key in over:
        if key not in {"recipes", *GROUPS, *sections}:
            raise ValueError(f"model {source!r}: unknown key {key!r}{recipe.nearest(key, sections)}")
    found, recipes = dict(table), over.pop("recipes", {})
    for group in GROUPS:
        changes, here = over.pop(group, {}), found.get(group, {})
        found[group] = here | {name: merged(here[name], changes[name]) for name in changes if name in here}
    for name, part in found["parts"].items():
        if part.get("recipe") not in recipes:
            known = ", ".join(recipes) or "none"
            raise ValueError(
                f"model {source!r} has no recipe in place of parts.{name}.recipe = {part.get('recipe')!r}; "
                f"it has some for: {known}. A file of your own may add to its [recipes]"
            )
        found["parts"][name] = part | {"recipe": recipes[part["recipe"]]}
    return merged(found, over)
