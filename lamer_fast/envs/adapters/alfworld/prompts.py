"""What the model is told of every household: what it can do, and how it says so."""

from __future__ import annotations

_REPLY = "Reply with one command in action tags, as in <action>go to shelf 1</action>."
PROMPTS = {
    "full": (
        "You are in a room of a household and have a task to do there, by one command at a time. Things lie "
        "on and in numbered furniture; what is in closed furniture is seen once it is open. You can carry "
        "one thing.\n"
        "Commands, with the names that you have read:\n"
        "- go to FURNITURE; open FURNITURE; close FURNITURE\n"
        "- take THING from FURNITURE; move THING to FURNITURE\n"
        "- clean THING with SINKBASIN; heat THING with MICROWAVE; cool THING with FRIDGE (carry it there)\n"
        "- use LAMP; slice THING with KNIFE; examine THING or FURNITURE; look; inventory\n"
        "A command that is not possible now changes nothing.\n"
        f"Think about where the things may be and what is left to do, then act. {_REPLY}"
    ),
    "compact": (
        "Household tasks. Commands: go to X, open X, close X, take A from X, move A to X, clean|heat|cool A "
        f"with X, use A, slice A with B, examine A, look, inventory. {_REPLY}"
    ),
}
