"""Words of a vocabulary made for the games of our own making, so that a sentence is a few tokens."""

from __future__ import annotations

from lamer_fast.envs.adapters.alfworld.prompts import PROMPTS
from lamer_fast.envs.adapters.alfworld.things import LAMPS, ROOMS, THINGS

COMMANDS = (
    "go to ",
    "open ",
    "close ",
    "take ",
    "move ",
    "clean ",
    "heat ",
    "cool ",
    "use ",
    "slice ",
    "examine ",
)
TEXTS = (
    "You are in the middle of a room. Looking quickly around you, you see a ", "You are facing the ",
    "Next to it, you see ", "You arrive at ", ". The ", "The ", ". On the ", "On the ", " is closed.",
    " is open. In it, you see ", ", you see ", "a ", ", a ", ", and a ", "nothing.", "You open the ",
    "You close the ", "You pick up the ", "You move the ", "You clean the ", "You heat the ",
    "You cool the ", "You turn on the ", " using the ", " from the ", " to the ", "Nothing happens.",
    "You are carrying: ", "You are not carrying anything.", "There's nothing special about ", "This is a ",
    "look", "inventory", " from ", " to ", " with ", " in ", "no ", "Your task is to: ", "put a ",
    "put some ", "put two ", "look at ", "examine the ", " under the ", " with the ", " some ", "find two ",
    " and put it in ", " and put them in ", " on ", "clean", "hot ", "heat", "cool",
)  # fmt: skip


def words() -> list[str]:
    kinds = [*THINGS, *LAMPS, *(kind for room in ROOMS.values() for kind in (*room.small, *room.full))]
    numbers = [f" {number}" for number in range(1, 10)]
    return [
        PROMPTS["compact"],
        *COMMANDS,
        *TEXTS,
        *dict.fromkeys(kind.lower() for kind in kinds),
        *numbers,
        ", ",
        ". ",
        "\n",
    ]
