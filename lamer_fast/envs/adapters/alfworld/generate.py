"""Games of our own making, of all six types: `python -m lamer_fast.envs.adapters.alfworld.generate FOLDER`.

A game is a function of its size, split, type and index, on every machine. It is a dict as the file
`game.tw-pddl` of the package holds it, its walkthrough ours; `write_games` lays games out as the download is:
`SPLIT/TYPE-Thing-None-Furniture-ROOM/trial_T.../{game.tw-pddl,traj_data.json}`. A room (its furniture and
where that stands) is a function of its number; `valid_unseen` is played in rooms that `train` has not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lamer_fast.envs.adapters.alfworld.household import (
    Draws,
    Household,
    Size,
    number,
    put,
    put_elsewhere,
    room,
)
from lamer_fast.envs.adapters.alfworld.names import mangled
from lamer_fast.envs.adapters.alfworld.plan import plan
from lamer_fast.envs.adapters.alfworld.problem import problem
from lamer_fast.envs.adapters.alfworld.tasks import TASK_TYPES, TaskType
from lamer_fast.envs.adapters.alfworld.things import LAMPS, ROOMS, THINGS
from lamer_fast.strict_json import json_text

GAMES = {"train": 240, "valid_seen": 24, "valid_unseen": 24}
"""Of each type, by split: games with a higher index are made as well, but are in no list."""
SEEN, UNSEEN = 8, 4  # rooms of each kind
LONGEST_PLAN = 10  # commands: what the paper's limit of turns allows
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Game:
    """One game as the download holds it."""

    name: str
    """Its folder, below that of the data: `SPLIT/TYPE-Thing-None-Furniture-ROOM/TRIAL`."""
    content: dict[str, Any]
    """Of `game.tw-pddl`."""
    trajectory: dict[str, Any]
    """Of `traj_data.json`."""


@dataclass(frozen=True)
class Draft:
    """A household with one task: to do something with a thing, at the furniture or lamp `target`."""

    room: int
    home: Household
    thing: str
    target: str
    plan: list[str]


def game(size: Size, split: str, task: TaskType, index: int) -> Game:
    """The game of an index; `GAMES` says how many of them are in the lists, but there are more."""
    for attempt in range(1000):
        draws = Draws(number(size), number(split), number(task.name), index, attempt)
        draft = _draft(size, split, task, draws)
        if draft is not None:
            return _written(size, split, task, index, draws, draft)
    raise AssertionError(f"no {task.name} in 1000 attempts")


def write_games(folder: Path, size: Size, counts: dict[str, int]) -> int:
    """Writes `counts[split]` games of each type; returns how many."""
    written = 0
    for split, count in counts.items():
        for task in TASK_TYPES:
            for index in range(count):
                made = game(size, split, task, index)
                path = folder / made.name
                path.mkdir(parents=True, exist_ok=True)
                (path / "game.tw-pddl").write_text(json_text(made.content), encoding="utf-8")
                (path / "traj_data.json").write_text(json_text(made.trajectory), encoding="utf-8")
                written += 1
    return written


def _draft(size: Size, split: str, task: TaskType, draws: Draws) -> Draft | None:
    """One draw; None where it makes no game."""
    kind = draws.of([kind for kind in ROOMS if _suits(kind, task)])
    index = SEEN + draws.below(UNSEEN) if split == "valid_unseen" else draws.below(SEEN)
    spots = room(size, kind, ROOMS[kind].first + index)
    home = Household(list(spots), mangled(f"loc|{draws.between(-9, 9)}|{draws.between(10, 12)}|0|30"))
    things = ROOMS[kind].things.split()
    thing = draws.of([t for t in things if task.needs in {"", *THINGS[t].properties}])
    is_look = task.word == "look"
    targets = sorted(LAMPS if is_look else THINGS[thing].fits & {s.kind for s in spots} - {task.tool})
    if not targets:
        return None
    target = draws.of(targets)
    taken = {spot.name for spot in spots}
    for _ in range(draws.between(2, 3) if task.word == "pick2" else draws.between(1, 2)):
        if not put(home, thing, THINGS[thing], taken, draws, but=target):
            return None
    others = [t for t in things if t != thing]
    for _ in range(draws.between(2, 4) if size == "small" else draws.between(8, 24)):
        other = draws.of(others)
        put(home, other, THINGS[other], taken, draws)
    if is_look or (kind in ("bedroom", "living room") and draws.chance(0.5)):
        lamp = target if is_look else draws.of(sorted(LAMPS))
        put(home, lamp, LAMPS[lamp], taken, draws)
        home.lamp = home.items[-1]
    if size == "full":
        put_elsewhere(home, thing, taken, draws)
    commands = plan(home, task, thing, target)
    if len(commands) > LONGEST_PLAN:
        return None
    return Draft(ROOMS[kind].first + index, home, thing, target, commands)


def _suits(kind: str, task: TaskType) -> bool:
    if task.word == "look":
        return kind in ("bedroom", "living room")
    return not task.tool or task.tool in ROOMS[kind].full


def _written(size: Size, split: str, task: TaskType, index: int, draws: Draws, draft: Draft) -> Game:
    thing, target = draft.thing, draft.target
    trial = f"trial_T{20260101 + index // 100}_{index % 100:06d}_{number(size, split) % 1_000_000:06d}"
    sentence = draws.of(task.sentences).format(obj=thing.lower(), recep=target.lower())
    goal = task.goal.format(obj=thing, recep=target)
    content = {
        "pddl_domain": shipped("alfred.pddl"),
        "grammar": shipped("alfred.twl2").replace("UNKNOWN GOAL.", sentence),
        "pddl_problem": problem(trial, draft.home, goal, draws, distances=size == "small"),
        "walkthrough": draft.plan,
        "solvable": True,
    }
    is_look = task.word == "look"
    trajectory = {
        "task_type": task.name,
        "task_id": trial,
        "pddl_params": {
            "object_target": thing,
            "parent_target": "" if is_look else target,
            "toggle_target": target if is_look else "",
            "mrecep_target": "",
            "object_sliced": False,
        },
        "scene": {"floor_plan": f"FloorPlan{draft.room}", "scene_num": draft.room},
        "turk_annotations": {"anns": [{"task_desc": sentence, "high_descs": draft.plan}]},
    }
    return Game(f"{split}/{task.name}-{thing}-None-{target}-{draft.room}/{trial}", content, trajectory)


@cache
def shipped(name: str) -> str:
    """A text of the package that this folder holds: `alfred.pddl` or `alfred.twl2`."""
    return (HERE / name).read_text(encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="generate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of the rooms")
    for split, count in GAMES.items():
        parser.add_argument(
            f"--{split.replace('_', '-')}", type=int, default=count, help="games of each type"
        )
    given = parser.parse_args(argv)
    counts = {split: getattr(given, split) for split in GAMES}
    try:
        print(f"{write_games(given.folder, given.size, counts)} games in {given.folder}")
    except OSError as error:
        parser.error(f"{given.folder} cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
