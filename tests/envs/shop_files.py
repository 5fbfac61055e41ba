"""A shop of a few products in the official format, each with something odd, and helpers to open it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamer_fast.envs.registry import default_options, make_env

WOOD = "home \u203a seats \u203a stools"


def product(asin: str, name: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "asin": asin, "name": name, "category": "home", "query": "Stool ", "product_category": WOOD,
        "full_description": "", "small_description": ["made by hand"], "pricing": "$20",
        "customization_options": {"Color": [{"value": "Red"}, {"value": "Sky/Blue"}]}, "images": [""],
    }  # fmt: skip
    return fields | changes


PRODUCTS = [
    product("B001", "Oak Stool"),
    product("B001", "The Same Again"),
    product("nan", "Nobody"),
    product("B00000000001", "Too Long"),
    product("B002", "Oak Stool", small_description="sturdy and made by hand"),
    product("B003", "Birch Bench", query="bench", pricing="$1,200.50 to $1,300", customization_options=None),
    product("B004", "Pine Bench", query="bench", pricing="", full_description="long " * 20_000),
    product(
        "B005", "Odd Box", query="box", product_category="toys \u203a boxes", pricing="$\u00a35 or so $x",
        customization_options={
            "Buy [Now]": [{"value": "a [b] c"}, {"value": "buy now"}, {"value": None}, {"value": ""}, "text"],
            "Empty": None, "Twice": [{"value": "a [b] c"}, {"value": "Line\nbreak \ud800"}],
        },
    ),
    {"asin": "B006"},
    "no product",
]  # fmt: skip
ATTRIBUTES = {
    "B001": {"attributes": ["solid wood", "non slip"], "instruction": "Find me a stool, solid wood",
             "instruction_attributes": ["solid wood"]},
    "B002": {"attributes": ["solid woods"]},
}  # fmt: skip
HUMAN = {
    "B001": [
        {"instruction": "i want a stool of solid wood.", "instruction_attributes": ["solid wood"],
         "instruction_options": ["red"]},
        {"instruction": "nothing asked", "instruction_attributes": [], "instruction_options": []},
    ],
    "B004": [{"instruction": "a bench", "instruction_attributes": ["long"], "instruction_options": {}}],
    "B009": [{"instruction": "not sold", "instruction_attributes": ["x"], "instruction_options": []}],
}  # fmt: skip


def write_shop(
    folder: Path, products: Any = PRODUCTS, attributes: Any = ATTRIBUTES, human: Any = HUMAN
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = {"items_shuffle": products, "items_ins_v2": attributes, "items_human_ins": human}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def shop_options(cache: Path, **changes: Any) -> Any:
    return replace(default_options("webshop"), **{"cache": str(cache), "nouns": "lexicon"} | changes)


def shop(options: Any, num_envs: int, split: str | None = None) -> Any:
    return make_env(options, num_envs, split=split)


def click(name: str) -> str:
    return f"<action>click[{name}]</action>"


def search(words: str) -> str:
    return f"<action>search[{words}]</action>"
