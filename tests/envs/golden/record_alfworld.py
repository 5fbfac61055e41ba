"""Records what alfworld says on made games, `alfworld.json.xz`: python -m tests.envs.golden.record_alfworld

Needs `pip install alfworld==0.4.2 textworld==1.7.0` (Python 3.11). The file holds, as JSON under xz,

    {"versions": {package: version}, "games": [{
        "size", "split", "task", "index": which game (`content` below makes it; `task` is a type's word),
        "digest": of its content, so that a change of the generator is seen (`digest` below),
        "menus": lists of admissible commands, each once, sorted as the package sorts them,
        "walks": [{"kind": "plan", "hostile", "curious" or "random",
                   "steps": [[command, text, menu, score, won], ...]}],
    }]}

A walk starts at a reset, whose step has the command None; `menu` is the place in `menus` of the commands
that can be given then, `score` and `won` are the package's. Walks end where the game is won. `hostile` is the
plan with commands between its own that change nothing; `curious` gives the command with the rarest first word
so far, of these the one given least often; `random` draws a first word, then a command.
"""

from __future__ import annotations

import json
import lzma
import random
from collections import Counter
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lamer_fast.envs.adapters.alfworld.generate import game, shipped
from lamer_fast.envs.adapters.alfworld.household import Draws, Household, Item, Spot
from lamer_fast.envs.adapters.alfworld.names import mangled
from lamer_fast.envs.adapters.alfworld.plan import plan
from lamer_fast.envs.adapters.alfworld.problem import problem
from lamer_fast.envs.adapters.alfworld.tasks import BY_WORD, TASK_TYPES

PATH = Path(__file__).with_name("alfworld.json.xz")
CORNER = ("corner", "train", "cool", 0)
PLACES = ("Fridge Microwave SinkBasin CounterTop Shelf Drawer Cabinet", "Desk SideTable", "GarbageCan")
LYING = [
    ("Mug", "CounterTop"), ("Apple", "Shelf"), ("Bread", "CounterTop"), ("Egg", "Fridge"),
    ("Knife", "Drawer"), ("ButterKnife", "CounterTop"), ("Plate", "Shelf"), ("Cloth", "SinkBasin"),
    ("Book", "Desk"), ("Book", "Desk"), ("DeskLamp", "Desk"), ("FloorLamp", "SideTable"),
    ("BasketBall", ""), ("Pencil", ""),
]  # fmt: skip
CHOSEN = [("small", "train", 0), ("full", "train", 0), ("full", "valid_unseen", 0)]
CURIOUS_STEPS = 100
CHANGES = ("clean", "heat", "cool", "slice", "use", "move")
HOSTILE = [
    "", " ", "look ", "\tinventory\n", "LOOK", "Look", "look around", "look\0", "\0", "help;look", "go to",
    "go to ", "go to cabinet 99", "take", "take mug 1", "examine", "open", "use", "xyzzy", "save", "restore",
    "restart", "quit", "y", "undo", "script", "a" * 10_000, "go to \u202ecabinet 1", "посмотри", "看",
    "\ud800", "{r.name}", "#look.feedback#", "[{o.name}]", "go to {r}", "%s%n", "../../etc/passwd", "1", "-1",
    "None", "look\nlook", "look\rlook", "\x1b[2J",
]  # fmt: skip


def recorded_games() -> list[tuple[str, str, str, int]]:
    """(size, split, word of the type, index) of each."""
    made = [(size, split, task.word, index) for size, split, index in CHOSEN for task in TASK_TYPES]
    return [*made, CORNER]


def content(size: str, split: str, task: str, index: int) -> dict[str, Any]:
    """Of the `game.tw-pddl` of a recorded game."""
    if (size, split, task, index) == CORNER:
        return corner()
    return game(size, split, BY_WORD[task], index).content  # type: ignore[arg-type]


def corner() -> dict[str, Any]:
    """Much in one place, so that random walks meet rare texts: of things that are hot, clean and sliced, that
    lie beside furniture or in each other, of lamps that are on from the start."""
    place = {kind: mangled(f"loc|{x}|0|0|30") for x, kinds in enumerate(PLACES) for kind in kinds.split()}
    spots, items = [], []
    for i, (kind, location) in enumerate(place.items()):
        spots.append(Spot(mangled(f"{kind.removesuffix('Basin')}|+00.{i:02d}|+01.00|-01.00"), kind, location))
        if kind in ("SinkBasin", "Drawer"):
            spots[-1] = Spot(f"{spots[-1].name}_bar_{kind}", kind, location)
    for i, (kind, where) in enumerate(LYING):
        spot = next((spot for spot in spots if spot.kind == where), None)
        beside = spot.location if spot else place["CounterTop"]
        items.append(Item(mangled(f"{kind}|-01.{i:02d}|+00.50|+00.00"), kind, spot, beside))
    items[-1].inside = items[0].name
    home = Household(spots, mangled("loc|9|9|0|30"), items)
    goal = BY_WORD["cool"].goal.format(obj="Bread", recep="GarbageCan")
    return {
        "pddl_domain": shipped("alfred.pddl"),
        "grammar": shipped("alfred.twl2").replace("UNKNOWN GOAL.", "put a cool bread in garbagecan."),
        "pddl_problem": problem("corner", home, goal, Draws(3), distances=True),
        "walkthrough": plan(home, BY_WORD["cool"], "Bread", "GarbageCan"),
        "solvable": True,
    }


def digest(game_content: dict[str, Any]) -> str:
    return blake2b(json.dumps(game_content, sort_keys=True).encode(), digest_size=16).hexdigest()


class Recorder:
    """One game in the package, as its own training environment wraps it."""

    def __init__(self, content: dict[str, Any]) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld.envs import PddlEnv

        infos = textworld.EnvInfos(won=True, admissible_commands=True)
        self.env = AlfredDemangler(PddlEnv(infos), shuffle=False)
        self.env.load(content)
        self.menus: dict[tuple[str, ...], int] = {}

    def walk(self, kind: str, choose: Any) -> dict[str, Any]:
        """Plays the commands of `choose(menu) -> command or None`."""
        state = self.env.reset()
        steps = [self._step(None, state, 0)]
        while not steps[-1][-1] and (command := choose(state["admissible_commands"])) is not None:
            state, score, _ = self.env.step(command)
            steps.append(self._step(command, state, score))
        return {"kind": kind, "steps": steps}

    def _step(self, command: str | None, state: Any, score: int) -> list[Any]:
        menu = self.menus.setdefault(tuple(state["admissible_commands"]), len(self.menus))
        return [command, state.feedback, menu, int(score), bool(state["won"])]


def by_first_word(seed: str, num_steps: int) -> Any:
    """Draws the first word of a command, then the command; what was changed is then examined."""
    rng = random.Random(seed)
    left = iter(range(num_steps))
    last = "none"

    def choose(menu: list[str]) -> str | None:
        nonlocal last
        if next(left, None) is None:
            return None
        verb, *rest = last.split()
        after = "look" if verb == "move" else f"examine {' '.join(rest[:2])}"
        if verb in CHANGES and after in menu and rng.random() < 0.8:
            last = after
        else:
            word = rng.choice(sorted({command.split()[0] for command in menu}))
            last = rng.choice([command for command in menu if command.split()[0] == word])
        return last

    return choose


def rarest_first(num_steps: int) -> Any:
    """Gives the command with the rarest first word so far, and of these the one given least often."""
    given: Counter[str] = Counter()
    left = iter(range(num_steps))

    def choose(menu: list[str]) -> str | None:
        if next(left, None) is None:
            return None
        chosen = min(menu, key=lambda command: (given[command.split()[0]], given[command], command))
        given.update({chosen: 1, chosen.split()[0]: 1})
        return chosen

    return choose


def record(size: str, split: str, word: str, index: int) -> dict[str, Any]:
    played = content(size, split, word, index)
    recorder = Recorder(played)
    commands = played["walkthrough"]
    key = f"{size} {split} {word} {index}"
    rng = random.Random(key)
    between = [rng.sample(HOSTILE, len(HOSTILE) // len(commands)) for _ in commands]
    mixed = [command for own, others in zip(commands, between, strict=True) for command in (*others, own)]
    walks = []
    for kind, given in (("plan", iter(commands)), ("hostile", iter(mixed))):
        walks.append(recorder.walk(kind, lambda menu, given=given: next(given, None)))
        assert walks[-1]["steps"][-1][-1], f"{key}: the {kind} does not win"
    walks.append(recorder.walk("curious", rarest_first(CURIOUS_STEPS)))
    repeats, num_steps = (8, 200) if size == "corner" else (2, 60)
    walks += [recorder.walk("random", by_first_word(f"{key} {i}", num_steps)) for i in range(repeats)]
    return {
        "size": size, "split": split, "task": word, "index": index, "digest": digest(played),
        "menus": [list(menu) for menu in recorder.menus], "walks": walks,
    }  # fmt: skip


def main() -> None:
    games = []
    for key in recorded_games():
        games.append(record(*key))
        print(*key, sum(len(walk["steps"]) for walk in games[-1]["walks"]), "steps", flush=True)
    held = {"versions": {name: version(name) for name in ("alfworld", "textworld")}, "games": games}
    PATH.write_bytes(lzma.compress(json.dumps(held).encode(), preset=9))


def load() -> dict[str, Any]:
    held: dict[str, Any] = json.loads(lzma.decompress(PATH.read_bytes()))
    return held


if __name__ == "__main__":
    main()
