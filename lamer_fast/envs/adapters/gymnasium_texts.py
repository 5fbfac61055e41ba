"""Rules, actions and texts of the Gymnasium environments that are known by name. No import of Gymnasium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lamer_fast.envs.adapters.world import plain

MARKED = re.compile(r"\x1b\[\d+m(.)\x1b\[0m")

LAKE_ACTIONS = ("left", "down", "right", "up")
LAKE_RULES = (
    "Cross the lake from S to G. F is ice, H a hole that ends the walk. Square brackets mark where you are."
)


def lake(rendered: str) -> str:
    """The cell that the rendering marks by a colour gets brackets; the last action's line is left out."""
    rows = [row for row in rendered.split("\n") if row.strip() and not row.lstrip().startswith("(")]
    return plain("\n".join(MARKED.sub(r"[\1]", row) for row in rows))


def lake_arguments(seed: int, given: dict[str, Any]) -> dict[str, Any]:
    """A lake of its own for a seed, of `size` rows, unless the arguments name one."""
    if "desc" in given or "map_name" in given:
        return given
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    return given | {"desc": generate_random_map(size=given.pop("size", 4), seed=seed)}


CLIFF_ACTIONS = ("up", "right", "down", "left")
CLIFF_RULES = (
    "Walk from the lower left corner to T. You are x. A step onto the cliff C throws you back to the start."
)

TAXI_ACTIONS = ("south", "north", "east", "west", "pick up", "drop off")
TAXI_RULES = (
    "Drive the taxi to the passenger, pick up, drive to the destination, drop off. Rows count from north, "
    "columns from west. A | between two cells is a wall."
)
TAXI_STOPS = {"R": (1, 1), "G": (1, 5), "Y": (5, 1), "B": (5, 4)}
TAXI_MAP = "R . | . . G\n. . | . . .\n. . . . .\n. | . . | . .\nY | . . | B ."


def taxi(observation: Any) -> str:
    """Its observation is ((row * 5 + column) * 5 + passenger) * 4 + destination, each from 0."""
    rest, destination = divmod(int(observation), 4)
    rest, passenger = divmod(rest, 5)
    row, column = divmod(rest, 5)
    names = list(TAXI_STOPS)
    at = "in the taxi" if passenger == 4 else f"at {_stop(names[passenger])}"
    return (
        f"{TAXI_MAP}\nThe taxi is in row {row + 1}, column {column + 1}. The passenger is {at}. "
        f"The destination is {_stop(names[destination])}."
    )


def _stop(name: str) -> str:
    row, column = TAXI_STOPS[name]
    return f"{name} (row {row}, column {column})"


GRID_ACTIONS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle", "done")
GRID_RULES = (
    "You stand in a grid of rooms and see a part of it. Do what the mission says. `pick up` and `toggle` "
    "(open a door or a box) act on what is one step ahead, `drop` puts down what you carry there."
)
KINDS = ["unseen", "empty", "wall", "floor", "door", "key", "ball", "box", "goal", "lava", "agent"]
COLOURS = ["red", "green", "blue", "purple", "yellow", "grey"]
DOORS = "open", "closed", "locked"
FACING = "east", "south", "west", "north"


def grid(observation: Any) -> str:
    """What MiniGrid's view holds, seen from the agent, which stands in the middle of its last row."""
    view = observation["image"]
    width, depth = view.shape[0], view.shape[1]
    middle = width // 2
    lines = [f"Mission: {observation['mission']}", f"You face {FACING[int(observation['direction'])]}."]
    carried = _thing(view[middle, depth - 1])
    if carried:
        lines.append(f"You carry {carried}.")
    seen = [
        (ahead + abs(aside), f"- {thing}, {_where(ahead, aside)}")
        for ahead, aside, thing in _things(view, middle, depth)
    ]
    for name, steps in _walls(view, middle, depth):
        seen.append((steps, f"- a wall, {_steps(steps)} {name}"))
    return "\n".join([*lines, "You see:", *(text for _, text in sorted(seen))])


def _things(view: Any, middle: int, depth: int) -> Iterator[tuple[int, int, str]]:
    for i in range(view.shape[0]):
        for j in range(depth):
            thing = _thing(view[i, j])
            if thing and (i, j) != (middle, depth - 1):
                yield depth - 1 - j, i - middle, thing


def _thing(cell: Any) -> str:
    kind, colour, state = KINDS[int(cell[0])], COLOURS[int(cell[1])], int(cell[2])
    if kind in ("unseen", "empty", "wall", "floor", "agent"):
        return ""
    if kind in ("goal", "lava"):
        return "the goal" if kind == "goal" else "lava"
    words = f"{DOORS[state]} {colour} door" if kind == "door" else f"{colour} {kind}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _walls(view: Any, middle: int, depth: int) -> Iterator[tuple[str, int]]:
    """The nearest wall straight ahead, and to both sides."""
    last = depth - 1
    rays = {
        "forward": [view[middle, last - n] for n in range(1, depth)],
        "left": [view[middle - n, last] for n in range(1, middle + 1)],
        "right": [view[middle + n, last] for n in range(1, middle + 1)],
    }
    for name, cells in rays.items():
        for steps, cell in enumerate(cells, start=1):
            if KINDS[int(cell[0])] == "wall":
                yield name, steps
                break


def _where(ahead: int, aside: int) -> str:
    parts = [f"{_steps(ahead)} forward"] if ahead else []
    if aside:
        parts.append(f"{_steps(abs(aside))} {'left' if aside < 0 else 'right'}")
    return " and ".join(parts)


def _steps(number: int) -> str:
    return "1 step" if number == 1 else f"{number} steps"


def grid_identity(env: Any) -> Any:
    """The whole grid, where the agent stands in it, and the mission."""
    return env.grid.encode(), tuple(map(int, env.agent_pos)), int(env.agent_dir), env.mission
