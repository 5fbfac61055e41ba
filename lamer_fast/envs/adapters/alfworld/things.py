"""What is in a made household: rooms, furniture, things, where these fit and what can be done with them.

The names are ALFRED's, since rules and texts of the game know them; the selection is our own.
"""

from __future__ import annotations

from dataclasses import dataclass

OPENABLE = {"Fridge", "Microwave", "Cabinet", "Drawer", "Safe"}


@dataclass(frozen=True)
class Thing:
    """A kind of thing: the furniture that it fits, and its properties as the rules call them."""

    fits: frozenset[str]
    properties: frozenset[str]


_TABLES = "CounterTop DiningTable SideTable CoffeeTable"
_DESKS = f"{_TABLES} Desk Dresser Shelf"
_BATH = "SinkBasin BathtubBasin Toilet Cabinet Drawer GarbageCan"
_VESSEL = "isReceptacleObject"
_KINDS = (
    ("Apple Tomato Potato Egg", f"{_TABLES} Fridge Microwave SinkBasin GarbageCan",
     "cleanable heatable coolable sliceable"),
    ("Bread", f"{_TABLES} Fridge Microwave GarbageCan", "heatable coolable sliceable"),
    ("Lettuce", f"{_TABLES} Fridge SinkBasin GarbageCan", "cleanable coolable sliceable"),
    ("Mug", f"{_DESKS} Cabinet Fridge Microwave SinkBasin CoffeeMachine",
     f"cleanable heatable coolable {_VESSEL}"),
    ("Cup Plate", f"{_DESKS} Cabinet Fridge Microwave SinkBasin", f"cleanable heatable coolable {_VESSEL}"),
    ("Bowl", f"{_DESKS} Cabinet Fridge Microwave SinkBasin", f"cleanable coolable {_VESSEL}"),
    ("Pan Pot", f"{_TABLES} StoveBurner Cabinet Fridge SinkBasin", f"cleanable coolable {_VESSEL}"),
    ("Kettle", f"{_TABLES} StoveBurner Cabinet SinkBasin Shelf", "cleanable"),
    ("Knife ButterKnife Fork Spoon Spatula", f"{_TABLES} Drawer SinkBasin", "cleanable"),
    ("SaltShaker PepperShaker", f"{_TABLES} Drawer Cabinet Shelf", ""),
    ("DishSponge", f"{_TABLES} {_BATH}", "cleanable"),
    ("SoapBar", f"CounterTop Shelf {_BATH}", "cleanable"),
    ("Cloth", f"{_DESKS} LaundryHamper {_BATH}", "cleanable"),
    ("ToiletPaper", "CounterTop Shelf Toilet ToiletPaperHanger Cabinet Drawer GarbageCan", ""),
    ("HandTowel", "CounterTop HandTowelHolder SinkBasin BathtubBasin Toilet Cabinet Drawer", ""),
    ("SoapBottle SprayBottle", f"{_DESKS} Toilet Cabinet Drawer GarbageCan", ""),
    ("Candle", f"{_DESKS} Toilet Cabinet Drawer", ""),
    ("TissueBox", f"{_DESKS} Toilet Cabinet Drawer TVStand", ""),
    ("AlarmClock", _DESKS, ""),
    ("Book", f"{_DESKS} Sofa ArmChair Bed Cabinet Drawer", ""),
    ("CD", f"{_DESKS} Cabinet Drawer Safe GarbageCan", ""),
    ("CellPhone", f"{_DESKS} Sofa ArmChair Bed Drawer Safe", ""),
    ("CreditCard KeyChain", f"{_DESKS} Sofa ArmChair Drawer Safe", ""),
    ("Laptop", f"{_TABLES} Desk Dresser Sofa ArmChair Bed", ""),
    ("Newspaper", f"{_DESKS} Sofa ArmChair Bed Cabinet Drawer GarbageCan", ""),
    ("Pen Pencil", f"{_DESKS} Drawer GarbageCan", ""),
    ("Pillow", "Sofa ArmChair Bed", ""),
    ("RemoteControl", f"{_DESKS} Sofa ArmChair Drawer", ""),
    ("Statue Vase", f"{_DESKS} Safe", ""),
    ("Watch", f"{_DESKS} Drawer Safe", ""),
    ("Box", f"{_DESKS} Sofa ArmChair Cabinet", _VESSEL),
)  # fmt: skip
THINGS = {
    kind: Thing(frozenset(fits.split()), frozenset(properties.split()) | {"pickupable"})
    for kinds, fits, properties in _KINDS
    for kind in kinds.split()
}
LAMPS = {
    kind: Thing(frozenset(_DESKS.split()), frozenset({"toggleable"})) for kind in ("DeskLamp", "FloorLamp")
}


@dataclass(frozen=True)
class Room:
    """A kind of room: its furniture (kind -> fewest and most of them), and the things that lie about."""

    first: int
    """ALFRED's number of the first room of the kind; they count on from there."""
    small: dict[str, tuple[int, int]]
    full: dict[str, tuple[int, int]]
    things: str
    """Their kinds, with spaces between."""


def _furniture(text: str) -> dict[str, tuple[int, int]]:
    """Of `Fridge 1 Cabinet 4-12 Shelf 0-3`."""
    words = text.split()
    counts = [[int(n) for n in word.split("-")] for word in words[1::2]]
    return {kind: (count[0], count[-1]) for kind, count in zip(words[::2], counts, strict=True)}


_STUDY = (
    "Book CD CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil Pillow Statue Vase Watch TissueBox Box"
)
ROOMS = {
    "kitchen": Room(
        1,
        _furniture("Fridge 1 Microwave 1 SinkBasin 1 CounterTop 1-2 Cabinet 1-2"),
        _furniture(
            "Fridge 1 Microwave 1 SinkBasin 1 CounterTop 1-3 Cabinet 4-12 Drawer 2-7 StoveBurner 2-4 "
            "DiningTable 0-1 SideTable 0-1 Shelf 0-3 GarbageCan 1 CoffeeMachine 1 Toaster 1"
        ),
        "Apple Tomato Potato Egg Bread Lettuce Mug Cup Plate Bowl Pan Pot Kettle Knife ButterKnife Fork "
        "Spoon Spatula DishSponge SaltShaker PepperShaker SoapBottle",
    ),
    "living room": Room(
        201,
        _furniture("Sofa 1 CoffeeTable 1 SideTable 1 Drawer 1-2 Shelf 0-1"),
        _furniture(
            "Sofa 1 ArmChair 1-2 CoffeeTable 1-2 SideTable 1-2 Drawer 1-5 Shelf 0-5 Cabinet 0-4 TVStand 0-1 "
            "DiningTable 0-1 Desk 0-1 GarbageCan 1 Safe 0-1"
        ),
        f"{_STUDY} RemoteControl Candle Plate Bowl",
    ),
    "bedroom": Room(
        301,
        _furniture("Bed 1 Desk 1 Drawer 1-2 SideTable 1 Shelf 0-1"),
        _furniture(
            "Bed 1 Desk 1-2 Drawer 2-6 SideTable 0-2 Dresser 0-1 Shelf 1-5 GarbageCan 1 LaundryHamper 0-1 "
            "Safe 0-1 ArmChair 0-1"
        ),
        f"{_STUDY} AlarmClock Cloth Mug Cup",
    ),
    "bathroom": Room(
        401,
        _furniture("SinkBasin 1 CounterTop 1 Toilet 1 Cabinet 1-2 GarbageCan 1"),
        _furniture(
            "SinkBasin 1-2 CounterTop 1 Toilet 1 BathtubBasin 0-1 Cabinet 1-4 Drawer 0-4 GarbageCan 1 "
            "ToiletPaperHanger 1 HandTowelHolder 1-2 Shelf 0-1"
        ),
        "SoapBar SoapBottle Cloth ToiletPaper SprayBottle Candle HandTowel DishSponge TissueBox",
    ),
}
