"""A household and its goal in PDDL, as ALFRED's problems are written."""

from __future__ import annotations

from lamer_fast.envs.adapters.alfworld.household import Draws, Household
from lamer_fast.envs.adapters.alfworld.things import LAMPS, OPENABLE, THINGS


def problem(trial: str, home: Household, goal: str, draws: Draws, distances: bool) -> str:
    """The PDDL of a household and its goal."""
    furniture = sorted({spot.kind for spot in home.spots})
    kinds = sorted({*THINGS, *LAMPS, "BasketBall"})  # the rules name some: all have to be declared
    locations = list(dict.fromkeys([*(spot.location for spot in home.spots), home.start]))
    objects = [
        "agent1 - agent",
        *(f"{kind}Type - otype" for kind in kinds),
        *(f"{kind}Type - rtype" for kind in sorted({*furniture, "SinkBasin", "Microwave", "Fridge"})),
        *(f"{item.name} - object" for item in home.items),
        *(f"{spot.name} - receptacle" for spot in home.spots),
        *(f"{location} - location" for location in locations),
    ]
    facts = ["(= (total-cost) 0)", f"(atLocation agent1 {home.start})"]
    for spot in home.spots:
        facts += [f"(receptacleType {spot.name} {spot.kind}Type)"]
        facts += [f"(receptacleAtLocation {spot.name} {spot.location})"]
        facts += [f"(openable {spot.name})"] * (spot.kind in OPENABLE)
    for item in home.items:
        facts += [
            f"(objectType {item.name} {item.kind}Type)",
            f"(objectAtLocation {item.name} {item.location})",
        ]
        thing = {**THINGS, **LAMPS}.get(item.kind)
        facts += [f"({p} {item.name})" for p in sorted(thing.properties if thing else {"pickupable"})]
        if item.spot is not None:
            facts += [f"(inReceptacle {item.name} {item.spot.name})"]
        if item.inside:
            facts += [f"(inReceptacleObject {item.name} {item.inside})"]
        if item.kind in LAMPS and draws.chance(0.2):
            facts += [f"(isOn {item.name})"]
    for kind, thing in THINGS.items():
        facts += [f"(canContain {f}Type {kind}Type)" for f in furniture if f in thing.fits]
    if distances:
        facts += [
            f"(= (distance {a} {b}) {1 + (i * 7 + j * 3) % 20})"
            for i, a in enumerate(locations) for j, b in enumerate(locations) if i != j
        ]  # fmt: skip
    lines = "\n        "
    return (
        f"\n(define (problem plan_{trial})\n(:domain alfred)\n(:objects{lines}{lines.join(objects)}\n)\n\n"
        f"(:init{lines}{lines.join(facts)}\n)\n\n(:goal\n    {goal}\n)\n(:metric minimize (total-cost))\n)\n"
    )
