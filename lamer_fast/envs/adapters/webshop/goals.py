"""What shoppers are asked for: instructions, price limits, their order and the panels of the splits."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, islice, product

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.webshop.catalogue import Catalogue
from lamer_fast.envs.adapters.webshop.options import WebShopOptions

LIMITS = [10.0 * i for i in range(1, 100)]
NO_LIMIT = 1_000_000.0
ORDER_SEED = 233  # of the original's shuffle
MAX_CHOICES = 1000  # synthetic goals of one product; an odd one has more combinations than a machine can hold
TEST, VALID = 500, 1500  # where the goals of the next split begin


@dataclass(frozen=True, slots=True)
class Goal:
    product: int
    """That the instruction was written for."""
    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    """Values."""
    max_price: float


def fraction(seed: int, what: str, asin: str) -> float:
    """In [0, 1): a function of the three alone, on every machine."""
    content = f"{seed}\0{what}\0{asin}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") / 2**64


def price(catalogue: Catalogue, p: int, seed: int) -> float:
    low, high = catalogue.prices[p].tolist()
    if low == high:
        return float(low)
    return float(low + (high - low) * fraction(seed, "price", catalogue.product(p).asin))


def limit(price: float, seed: int, asin: str) -> float:
    """The larger of two out of the next four multiples of 10 above the price, as of the draw of a seed."""
    above = [multiple for multiple in LIMITS if multiple > price][:4]
    pairs = list(combinations(above, 2))
    return pairs[int(fraction(seed, "limit", asin) * len(pairs))][1] if pairs else NO_LIMIT


@lru_cache(8)
def make_goals(catalogue: Catalogue, kind: str, seed: int) -> tuple[Goal, ...]:
    """All goals, in the order that the original's shuffle gives to so many."""
    goals = []
    limits: dict[int, float] = {}
    for p, text, attributes, values in catalogue.instructions(kind):
        if p not in limits:
            limits[p] = limit(price(catalogue, p, seed), seed, catalogue.product(p).asin)
        at_most = "" if limits[p] == NO_LIMIT else f", and price lower than {limits[p]:.2f} dollars"
        for chosen, options in _choices(catalogue, p) if kind == "synthetic" else [("", tuple(values))]:
            goals.append(Goal(p, f"{text}{chosen}{at_most}", tuple(attributes), options, limits[p]))
    order = list(range(len(goals)))
    random.Random(ORDER_SEED).shuffle(order)
    return tuple(goals[i] for i in order)


def _choices(catalogue: Catalogue, p: int) -> list[tuple[str, tuple[str, ...]]]:
    """Of a synthetic goal: (the words for it, values) of every combination of the product's options."""
    groups = sorted(catalogue.product(p).options)
    found = []
    for values in islice(product(*(values for _, values in groups)), MAX_CHOICES):
        named = [f"{name}: {value}" for (name, _), value in zip(groups, values, strict=True)]
        found.append((" with " + ", and ".join(named) if named else "", values))
    return found


def task_id(asin: str, goal: Goal) -> int:
    content = f"{asin}\0{goal.text}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


class Goals:
    """The goals of some options, their ids, and which of them a split plays."""

    def __init__(self, catalogue: Catalogue, options: WebShopOptions) -> None:
        self.panels = options.panels
        self.all = make_goals(catalogue, options.goals, options.data_seed)
        if not self.all:
            raise ValueError(f"the files hold no {options.goals} goal for the products that are read")
        ids = [task_id(catalogue.product(goal.product).asin, goal) for goal in self.all]
        self.tasks: NDArray[np.uint64] = np.array(ids, np.uint64)
        first = np.zeros(len(ids), bool)
        first[np.unique(self.tasks, return_index=True)[1]] = True
        self._distinct = first  # a task that stands there again belongs to where it stands first

    def of(self, split: str | None) -> NDArray[np.int64]:
        """Positions in `all` of the distinct tasks of a split.

        Raises:
            ValueError: there is none.
        """
        begin, end = {
            "disjoint": {"test": (0, TEST), "valid": (TEST, VALID), "train": (VALID, None)},
            "published": {"test": (0, TEST), "valid": (0, TEST), "train": (TEST, None)},
        }[self.panels].get(split or "", (0, None))
        positions = np.flatnonzero(self._distinct[begin:end]) + begin
        if not len(positions):
            raise ValueError(
                f"split {split} has no goal: it begins at goal {begin:,}, the files give {len(self.all):,}; "
                "more products, --env.goals synthetic or --env.panels published give it some"
            )
        return positions
