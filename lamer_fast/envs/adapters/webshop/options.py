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
    """Folder of the official files; by default a small catalogue of invented products."""
    cache: str | None = None
    """Folder for arrays built from the files; by default lamer-fast/webshop in the user's cache."""
    products: Annotated[int, Range(1)] | None = None
    """Number of products to use, from the first of the file on; by default all."""
    goals: Literal["human", "synthetic"] = "human"
    """Instructions written by people, or made from attributes and options."""
    panels: Literal["disjoint", "published"] = "disjoint"
    """disjoint: test goals 0-499, valid 500-1499, train 1500 on. published: train 500 on, else 0-499."""
    data_seed: Annotated[int, Range(0)] = 0
    """Seed of prices within their ranges and of limits in instructions; another seed gives other tasks."""
    rewards: Literal["sparse", "dense"] = "sparse"
    """Reward of a purchase: 10 for a score of exactly 1 and otherwise 0, or 10 times the score."""
    style: Literal["lines", "peers", "compact"] = "lines"
    """Text style of a page: one text per line, joined by [SEP] as in the original, or in few words."""
    max_results: Annotated[int, Range(1, 1000)] = 50
    """Maximum number of products that a search finds."""
    page_products: Annotated[int, Range(1, 1000)] = 10
    """Number of these on one page."""
    max_page_chars: Annotated[int, Range(100, 10_000_000)] = 8000
    """Maximum length of a page; a longer one is cut and says so."""
    show_attributes: bool = False
    """Give each product a page that lists its attributes."""
    nouns: Literal["auto", "lexicon", "spacy"] = "auto"
    """Finder of the nouns in titles when the files are first read; auto takes spaCy if it is installed."""
