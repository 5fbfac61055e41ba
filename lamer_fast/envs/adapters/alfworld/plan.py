"""A plan for a made game: the commands of somebody who knows where everything is."""

from __future__ import annotations

from lamer_fast.envs.adapters.alfworld.household import Household, Item, Spot
from lamer_fast.envs.adapters.alfworld.names import short_names
from lamer_fast.envs.adapters.alfworld.tasks import TaskType
from lamer_fast.envs.adapters.alfworld.things import OPENABLE


def plan(home: Household, task: TaskType, wanted: str, target: str) -> list[str]:
    """Commands that solve the task, by somebody who knows where everything is."""
    names = short_names(
        [spot.name.lower() for spot in home.spots] + [item.name.lower() for item in home.items]
    )
    opened: set[str] = set()
    commands: list[str] = []
    at = home.start

    def name(thing: Spot | Item) -> str:
        return names[thing.name.lower()]

    def go(spot: Spot, inside: bool) -> None:
        nonlocal at
        if at != spot.location:  # to where one is, nobody can go
            commands.append(f"go to {name(spot)}")
            at = spot.location
        if inside and spot.kind in OPENABLE and spot.name not in opened:
            commands.append(f"open {name(spot)}")
            opened.add(spot.name)

    def effort(item: Item) -> int:
        return item.spot is not None and item.spot.kind in OPENABLE

    items = sorted((i for i in home.items if i.kind == wanted and i.spot), key=effort)
    there = [spot for spot in home.spots if spot.kind == target]
    there.sort(key=lambda spot: spot.kind in OPENABLE)
    for item in items[: 2 if task.word == "pick2" else 1]:
        assert item.spot is not None
        go(item.spot, True)
        commands.append(f"take {name(item)} from {name(item.spot)}")
        if task.word == "look":
            assert home.lamp is not None and home.lamp.spot is not None
            go(home.lamp.spot, False)
            commands.append(f"use {name(home.lamp)}")
            continue
        if task.tool:
            tool = next(spot for spot in home.spots if spot.kind == task.tool)
            go(tool, False)
            commands.append(f"{task.verb} {name(item)} with {name(tool)}")
        go(there[0], True)
        commands.append(f"move {name(item)} to {name(there[0])}")
    return commands
