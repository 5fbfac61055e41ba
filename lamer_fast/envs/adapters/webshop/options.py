"""What `env.*` may say of WebShop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lamer_fast.envs.options import EnvOptions
from lamer_fast.fields import Range


@dataclass(frozen=True)
class WebShopOptions(EnvOptions):
    name: str = "webshop"
    """This environment."""
    data: str | None = None
    """Folder of the official files; none given: a small catalogue of invented products that comes with it."""
    cache: str | None = None
    """Folder of what is built from the files, once; none given: lamer-fast/webshop in the user's cache."""
    products: Annotated[int, Range(1)] | None = None
    """Only so many products, the first of the file; none given: all."""
    goals: Literal["human", "synthetic"] = "human"
    """Instructions that people wrote, or those made of attributes and options."""
    panels: Literal["disjoint", "published"] = "disjoint"
    """disjoint: test goals 0-499, valid 500-1499, train 1500 on. published: train 500 on, else 0-499."""
    data_seed: Annotated[int, Range(0)] = 0
    """Draws prices out of ranges and the limits of instructions; another seed is another set of tasks."""
    rewards: Literal["sparse", "dense"] = "sparse"
    """At the purchase: 10 for a score of exactly 1 and else 0, or 10 times the score."""
    style: Literal["lines", "peers", "compact"] = "lines"
    """How a page is written: a text a line, joined by [SEP] as in the original, or in few words."""
    max_results: Annotated[int, Range(1, 1000)] = 50
    """Products that a search finds at most."""
    page_products: Annotated[int, Range(1, 1000)] = 10
    """Of those, shown on a page."""
    max_page_chars: Annotated[int, Range(100, 10_000_000)] = 8000
    """A longer page is cut there, and says so."""
    show_attributes: bool = False
    """A product has a page that lists its attributes."""
    nouns: Literal["auto", "lexicon", "spacy"] = "auto"
    """Where the nouns of titles come from when the files are first read; auto: spaCy where it is there."""
