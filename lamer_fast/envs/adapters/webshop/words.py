"""The texts of a small catalogue as words of a tokenizer: a line of results costs three tokens."""

from __future__ import annotations

import re

from lamer_fast.envs.adapters.webshop import pages
from lamer_fast.envs.adapters.webshop.catalogue import Catalogue
from lamer_fast.envs.adapters.webshop.goals import LIMITS
from lamer_fast.envs.adapters.webshop.invent import PHRASES
from lamer_fast.envs.adapters.webshop.options import WebShopOptions

MAX_PRODUCTS = 2000  # of a catalogue that gets words; beyond it texts are spelt in bytes


def words(catalogue: Catalogue, options: WebShopOptions) -> list[str]:
    found = ["<action>search[", "<action>click[", "]</action>", "shop", "nothing", "bought ", "not "]
    found += [", ", ": ", "not bought", *PHRASES, *pages.SHOWN, *pages.SUB_PAGES]
    if len(catalogue) > MAX_PRODUCTS:
        return found
    for p in range(len(catalogue)):
        product = catalogue.product(p)
        found += [product.asin.lower(), f" {product.title} ".lower(), f"{product.price_text}\n".lower()]
        found += [product.price_text.lower(), product.query, product.description.lower()]
        found += [attribute.lower() for attribute in product.attributes]
        found += [name for name, _ in product.options] + [v for _, values in product.options for v in values]
    found += [f"{limit:.2f} dollars" for limit in LIMITS]
    return [word for word in dict.fromkeys(found) if word and not re.fullmatch(r"\s+", word)]
