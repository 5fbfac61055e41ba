"""The score of a purchase, by the rules of the original: a number in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from lamer_fast.envs.adapters.webshop.goals import Goal
from lamer_fast.envs.adapters.webshop.products import Product

ENOUGH = 85  # of 100, which two texts must have more of to be called alike
# An option that contains one of them counts as that colour: the first in this order, so that cashew is ash.
_COLORS = """
alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy
camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral
cranberry cream crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass
gray green grey heather indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon
mauve merlot midnight mint mocha multicolor mushroom mustard natural navy nude olive orange peach pewter
pink plum purple rainbow red rose royal rust sand sapphire seashell silver skull slate steel stone
stonewash sunflower tan taupe teal tiger turquoise violet walnut wheat white wine yellow
"""
COLORS = _COLORS.split()


@dataclass(frozen=True)
class Score:
    total: float
    kind: float
    """What the kind of product is worth: 1, 0.5, 0.1 or 0."""
    attributes: int
    """Of the goal, that were hit."""
    options: int
    """Likewise."""
    price: bool
    """It costs no more than the limit."""


def score(bought: Product, price: float, chosen: Sequence[str], goal: Goal, wanted: Product) -> Score:
    """Args: the option values chosen; `wanted` is the product that the goal was written for."""
    attributes = sum(has_attribute(bought, attribute) for attribute in goal.attributes)
    options = sum(any(alike(color(c), color(value)) for c in chosen) for value in goal.options)
    affordable = price <= goal.max_price
    kind = kind_score(bought, wanted)
    parts = len(goal.attributes) + len(goal.options) + 1
    total = (attributes + options + affordable) / parts * kind
    return Score(total, kind, attributes, options, affordable)


def kind_score(bought: Product, wanted: Product) -> float:
    title = title_score(bought, wanted)
    if title == 0:
        return 0.0
    if title < 0.1:
        return 0.1
    same_query = bought.query == wanted.query
    return 1.0 if same_query or len(bought.category_set & wanted.category_set) >= 2 or title > 0.2 else 0.5


def title_score(bought: Product, wanted: Product) -> float:
    """The share of the wanted product's nouns that the bought one has, repeated ones counted in the whole."""
    if not wanted.nouns:
        return 0.2
    return len(bought.noun_set & wanted.noun_set) / len(wanted.nouns)


def has_attribute(bought: Product, attribute: str) -> bool:
    if any(alike(own, attribute) for own in bought.attributes):
        return True
    return any(attribute in text for text in bought.searched)


@lru_cache(1 << 16)
def color(value: str) -> str:
    return next((name for name in COLORS if name in value), value)


@lru_cache(1 << 18)
def alike(one: str, other: str) -> bool:
    """Whether they have mostly the same words (`token_set_ratio`, of ASCII letters and digits)."""
    fuzz, process = _rapidfuzz()
    a, b = (process(text.encode("ascii", "ignore").decode()) for text in (one, other))
    return bool(round(fuzz.token_set_ratio(a, b)) > ENOUGH)


@cache
def _rapidfuzz() -> tuple[Any, Any]:
    from rapidfuzz import fuzz, utils

    return fuzz, utils.default_process
