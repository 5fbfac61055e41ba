"""From a product of the official files to what the shop knows of it: cleaned texts, prices, options."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

NO_PRICE = 100.0
MAX_ASIN = 10
AMOUNT = re.compile(r"\d+(?:\.\d*)?|\.\d+")


@dataclass(frozen=True)
class Product:
    asin: str
    title: str
    price_text: str
    query: str
    """What it was found by when the catalogue was made, in lower case."""
    department: str
    """The catalogue's `category`, one word."""
    category: str
    """The catalogue's `product_category`, "a \u203a b \u203a c"."""
    description: str
    bullets: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    """(name, values), in lower case."""
    attributes: tuple[str, ...]
    nouns: tuple[str, ...] = field(default=())
    """Of the title, in its order, in lower case."""

    @cached_property
    def noun_set(self) -> frozenset[str]:
        return frozenset(self.nouns)

    @cached_property
    def category_set(self) -> frozenset[str]:
        return frozenset(part.strip() for part in self.category.split("\u203a"))

    @cached_property
    def searched(self) -> tuple[str, str, str]:
        """The texts in which an attribute that is not listed may still be found, in lower case."""
        return self.title.lower(), " ".join(self.bullets).lower(), self.description.lower()

    @cached_property
    def group_of_value(self) -> dict[str, int]:
        """Option value -> position in `options`; of equal values the last counts, as in the original."""
        return {value: i for i, (_, values) in enumerate(self.options) for value in values}

    @cached_property
    def contents(self) -> str:
        """What a search looks through."""
        options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in self.options)
        return " ".join((self.title, self.description, *self.bullets[:1], options)).lower()


def clean(raw: Any, attributes: Any) -> tuple[Product, tuple[float, float]] | None:
    """The product and the range of its price; None of what has no usable asin or name."""
    if not isinstance(raw, dict):
        return None
    asin, title = _text(raw.get("asin")), _text(raw.get("name"))
    if not asin or not title or asin == "nan" or len(asin) > MAX_ASIN:
        return None
    price_text, price_range = price(raw.get("pricing"))
    bullets = raw.get("small_description")
    listed = attributes if isinstance(attributes, list) else []
    product = Product(
        asin=asin,
        title=title,
        price_text=price_text,
        query=_text(raw.get("query")).lower(),
        department=_text(raw.get("category")),
        category=_text(raw.get("product_category")),
        description=_text(raw.get("full_description")),
        bullets=tuple(_text(b) for b in (bullets if isinstance(bullets, list) else [bullets])),
        options=_options(raw.get("customization_options")),
        attributes=tuple(_text(a) for a in listed) or ("DUMMY_ATTR",),
    )
    return product, price_range


def price(pricing: Any) -> tuple[str, tuple[float, float]]:
    """("$a", or "$a to $b"; lowest and highest) of a text with dollar signs."""
    parts = str(pricing).split("$")[1:] if pricing else []
    amounts = [float(m[0]) for part in parts if (m := AMOUNT.search(part.replace(",", "")))]
    low, *rest = amounts or [NO_PRICE]
    return (f"${low} to ${rest[0]}", (low, rest[0])) if rest else (f"${low}", (low, low))


def _options(raw: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    groups: dict[str, tuple[str, ...]] = {}
    for name, contents in raw.items() if isinstance(raw, dict) else ():
        values = [c.get("value") for c in contents or () if isinstance(c, dict)] if contents else []
        cleaned = (_text(value).replace("/", " | ").lower() for value in values)
        groups[_text(name).lower()] = tuple(dict.fromkeys(value for value in cleaned if value))
    return tuple((name, values) for name, values in groups.items() if values)


def _text(value: Any) -> str:
    """A text on one line, without what no encoding holds."""
    if isinstance(value, list):
        value = " ".join(_text(v) for v in value)
    text = "" if value is None else str(value)
    return " ".join(text.replace("\0", " ").encode("utf-8", "replace").decode().split())
