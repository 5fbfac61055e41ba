"""A household of our own making: furniture in a room, things on and in it. Drawn from numbers that stay."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeVar

from lamer_fast.envs.adapters.alfworld.names import mangled
from lamer_fast.envs.adapters.alfworld.things import ROOMS, THINGS, Thing
from lamer_fast.rng import mix

Size = Literal["small", "full"]
T = TypeVar("T")


@dataclass(frozen=True)
class Spot:
    """A piece of furniture."""

    name: str
    kind: str
    location: str


@dataclass
class Item:
    """A thing and where it is; `spot` None: in another thing or on the floor, at `location`."""

    name: str
    kind: str
    spot: Spot | None
    location: str
    inside: str = ""


@dataclass
class Household:
    """A room with things in it and one task."""

    spots: list[Spot]
    start: str
    items: list[Item] = field(default_factory=list)
    lamp: Item | None = None


class Draws:
    """Random numbers that no version of Python changes: `random.Random.random` is promised to stay."""

    def __init__(self, *key: int) -> None:
        self._random = random.Random(int(mix(*key)[0])).random

    def below(self, n: int) -> int:
        return int(self._random() * n)

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def of(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def chance(self, p: float) -> bool:
        return self._random() < p


@cache
def room(size: Size, kind: str, index: int) -> tuple[Spot, ...]:
    """The furniture of a room; neighbouring cabinets and drawers may be reached from one place."""
    draws = Draws(number(size), index)
    furniture = getattr(ROOMS[kind], size)
    spots: list[Spot] = []
    taken: set[str] = set()
    for kind_of, (low, high) in furniture.items():
        for i in range(draws.between(low, high)):
            place = fresh(
                taken, lambda: f"loc|{draws.between(-9, 9)}|{draws.between(-9, 9)}|{draws.below(4)}|30"
            )
            if i and kind_of in ("Cabinet", "Drawer") and draws.chance(0.2):
                location = spots[-1].location
            else:
                location = mangled(place)
            spots.append(Spot(identifier(kind_of, taken, draws), kind_of, location))
    return tuple(spots)


def put(home: Household, kind: str, thing: Thing, taken: set[str], draws: Draws, but: str = "") -> bool:
    """Puts one more thing of a kind onto furniture that it fits, and that is not `but`."""
    spots = [spot for spot in home.spots if spot.kind in thing.fits and spot.kind != but]
    if not spots:
        return False
    spot = draws.of(spots)
    home.items.append(Item(identifier(kind, taken, draws), kind, spot, spot.location))
    return True


def put_elsewhere(home: Household, wanted: str, taken: set[str], draws: Draws) -> None:
    """Now and then a thing that nobody can take: on the floor, or in a vessel."""
    if draws.chance(0.3):
        spot = draws.of(home.spots)
        home.items.append(Item(identifier("BasketBall", taken, draws), "BasketBall", None, spot.location))
    vessels = [
        i for i in home.items
        if i.kind != wanted and i.kind in THINGS and "isReceptacleObject" in THINGS[i.kind].properties
    ]  # fmt: skip
    if vessels and wanted != "Pencil" and draws.chance(0.5):
        vessel = draws.of(vessels)
        name = identifier("Pencil", taken, draws)
        home.items.append(Item(name, "Pencil", None, vessel.location, vessel.name))


def identifier(kind: str, taken: set[str], draws: Draws) -> str:
    """A name that holds coordinates, as ALFRED's do; a basin is part of what it is the basin of."""
    whole, part = (kind.removesuffix("Basin"), f"|{kind}") if kind.endswith("Basin") else (kind, "")

    def draw() -> str:
        x, y, z = (f"{'-' if draws.chance(0.5) else '+'}{draws.below(400) / 100:05.2f}" for _ in range(3))
        return mangled(f"{whole}|{x}|{y}|{z}{part}")

    return fresh(taken, draw)


def fresh(taken: set[str], draw: Callable[[], str]) -> str:
    while (name := draw()) in taken:
        pass
    taken.add(name)
    return name


def number(*words: str) -> int:
    """A key for `mix` from words."""
    return zlib.crc32("/".join(words).encode())
