"""A catalogue of invented products in the format of the official files, for tests and small trainings.

Every kind of product comes in several versions that a page of results does not tell apart: what a version is
like stands on its features page alone, so that an agent with few turns has to try one, and to remember which.

    python -m lamer_fast.envs.adapters.webshop.invent FOLDER [SEED]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from lamer_fast.strict_json import json_text

VERSION = 1  # of what `write` writes; a test knows its digest
VERSIONS = 8  # products of a kind
# department -> (kinds, attributes that its products may have)
DEPARTMENTS = {
    "home \u203a lighting": (
        "lamp lantern chandelier nightlight torch",
        "dimmable cordless rechargeable rustproof foldable shockproof",
    ),
    "home \u203a kitchen": (
        "kettle teapot skillet colander grater",
        "enamelled dishwasher-safe stackable nonstick insulated lightweight",
    ),
    "home \u203a furniture": (
        "stool bench bookshelf armchair desk",
        "stackable varnished hand-carved height-adjustable washable collapsible",
    ),
    "garden \u203a tools": (
        "trowel rake wheelbarrow shears sprinkler",
        "rustproof telescopic left-handed padded frostproof lightweight",
    ),
    "clothing \u203a outdoor": (
        "parka anorak poncho gaiters mittens",
        "windproof quilted reflective fleece-lined hooded seamless",
    ),
    "luggage \u203a travel": (
        "backpack suitcase satchel duffel pouch",
        "lockable waterproof expandable padded wheeled scented",
    ),
    "toys \u203a puzzles": (
        "jigsaw yo-yo kaleidoscope marionette tangram",
        "magnetic glow-in-the-dark hand-painted pocket-sized washable musical",
    ),
    "pets \u203a supplies": (
        "birdcage terrarium scratching-post leash kennel",
        "chewproof ventilated reflective odourless collapsible heated",
    ),
}
MATERIALS = (
    "oak",
    "birch",
    "bamboo",
    "tin",
    "brass",
    "wool",
    "linen",
    "cork",
    "clay",
    "felt",
    "willow",
    "hemp",
)
COLORS = ("red", "blue", "green", "black", "white", "yellow", "purple", "orange", "teal", "pink")
SIZES = ("small", "medium", "large")
SIZED = "clothing \u203a outdoor"
PRICES = (7.5, 9.0, 12.0, 14.5, 18.0, 23.0, 27.5, 31.0, 36.0, 42.0, 55.0, 64.0)
# of the instructions, for a vocabulary
PHRASES = (
    "i need a ",
    " that is ",
    " and ",
    ", color: ",
    ", size: ",
    ", and price lower than ",
    "color",
    "size",
    "+",
    "it is ",
)


def write(folder: Path, seed: int = 0) -> None:
    """The three files."""
    rng = random.Random(seed)  # of which only `random()` is used: the same numbers in every version of Python
    products: list[dict[str, Any]] = []
    attributes: dict[str, Any] = {}
    instructions: dict[str, Any] = {}
    for department, (kinds, pool) in DEPARTMENTS.items():
        for kind in kinds.split():
            for version, own in enumerate(_some(rng, list(combinations(pool.split(), 3)), VERSIONS)):
                product = _product(rng, department, kind, version, own, len(products))
                products.append(product)
                goals = _goals(rng, kind, own, product)
                instructions[product["asin"]] = goals
                attributes[product["asin"]] = {
                    "attributes": list(own),
                    "instruction": f"Find me a {kind}, {own[0]}, {own[1]}",
                    "instruction_attributes": list(own[:2]),
                }
    products = _some(rng, products, len(products))
    folder.mkdir(parents=True, exist_ok=True)
    files = {"items_shuffle": products, "items_ins_v2": attributes, "items_human_ins": instructions}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json_text(content, ensure_ascii=False), encoding="utf-8")


def _product(
    rng: random.Random, department: str, kind: str, version: int, own: tuple[str, ...], number: int
) -> dict[str, Any]:
    material = _one(rng, MATERIALS)
    low = _one(rng, PRICES)
    pricing = f"${low}"
    if rng.random() < 0.05:
        pricing = f"${low} to ${low + 4.0}"
    if number % 97 == 96:
        pricing = ""
    options = {"Color": [{"value": color, "image": None} for color in _some(rng, COLORS, 4)]}
    if department == SIZED:
        options["Size"] = [{"value": size, "image": None} for size in SIZES]
    return {
        "asin": f"B0{number:03d}{_letters(rng, 3)}",
        "name": f"{material.capitalize()} {kind.capitalize()}",
        "category": department.split()[0],
        "query": kind,
        "product_category": f"{department} \u203a {kind}s",
        "full_description": f"A {kind} made of {material}.",
        "small_description": [f"it is {attribute}" for attribute in own],
        "pricing": pricing,
        "customization_options": options,
        "images": [""],
    }


def _goals(
    rng: random.Random, kind: str, own: tuple[str, ...], product: dict[str, Any]
) -> list[dict[str, Any]]:
    """One for each two of the attributes and each of three colours."""
    goals = []
    options = product["customization_options"]
    for pair in combinations(own, 2):
        for color in options["Color"][:3]:
            text, chosen = (
                f"i need a {kind} that is {pair[0]} and {pair[1]}, color: {color['value']}",
                [color["value"]],
            )
            if "Size" in options:
                chosen.append(_one(rng, SIZES))
                text += f", size: {chosen[-1]}"
            goal = {
                "instruction": f"{text}.",
                "instruction_attributes": list(pair),
                "instruction_options": chosen,
            }
            goals.append(goal)
    return goals


def _one(rng: random.Random, values: Any) -> Any:
    return values[int(rng.random() * len(values))]


def _some(rng: random.Random, values: Any, count: int) -> list[Any]:
    """`count` different ones, in any order."""
    left = list(values)
    return [left.pop(int(rng.random() * len(left))) for _ in range(count)]


def _letters(rng: random.Random, count: int) -> str:
    return "".join(_one(rng, "BCDFGHJKLMNPQRSTVWXZ") for _ in range(count))


def main(argv: Sequence[str]) -> None:
    write(Path(argv[0]), *map(int, argv[1:2]))


if __name__ == "__main__":
    main(sys.argv[1:])
