"""A player for warm starts. It knows what it has read, and looks for the rest: where things lie is not told.

It goes through the furniture in random order until it sees the thing of its task, and then does what the task
says. One that remembers uses in later episodes of a trial where it has seen it; its note says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.expert import Expert, with_noise

TASKS = (
    re.compile(r"(?:look at|examine the) (?P<thing>\w+) (?:under|with) the (?P<target>\w+)\."),
    re.compile(r"put an? (?P<how>clean|hot|cool) (?P<thing>\w+) in (?P<target>\w+)\."),
    re.compile(r"(?P<how>clean|heat|cool) some (?P<thing>\w+) and put it in (?P<target>\w+)\."),
    re.compile(r"put two (?P<thing>\w+) in (?P<target>\w+)\."),
    re.compile(r"find two (?P<thing>\w+) and put them in (?P<target>\w+)\."),
    re.compile(r"put (?:a|some) (?P<thing>\w+) (?:in|on) (?P<target>\w+)\."),
)
VERBS = {"clean": "clean", "hot": "heat", "heat": "heat", "cool": "cool"}
SEEN = re.compile(r"(?:On the (\w+ \d+)|The (\w+ \d+) is open\. In it), you see (.*)\.")
TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.")
MOVED = re.compile(r"You move the (\w+ \d+) to the (\w+ \d+)\.")
CHANGED = re.compile(r"You (?:clean|heat|cool) the (\w+ \d+) using")
THING = re.compile(r"an? (\w+ \d+)")


def kind(name: str) -> str:
    return name.partition(" ")[0]


@dataclass
class Player:
    """What one has read in its trial. `first` is where things lay when they were first seen."""

    thing: str
    target: str
    verb: str = ""
    lamp: bool = False
    first: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    searched: set[str] = field(default_factory=set)
    held: str = ""
    ready: set[str] = field(default_factory=set)

    def start(self, remembers: bool) -> None:
        """An episode begins: everything is where it was."""
        self.places = dict(self.first) if remembers else {}
        self.searched, self.held, self.ready = set(), "", set()
        if not remembers:
            self.first = {}

    def read(self, text: str) -> None:
        for found in SEEN.finditer(text):
            place = found[1] or found[2]
            for thing in THING.findall(found[3]):
                self.places[thing] = place
                if thing not in self.first and place not in self.searched:
                    self.first[thing] = place
            self.searched.add(place)
        if taken := TAKEN.search(text):
            self.held = taken[1]
            self.places.pop(taken[1], None)
        if moved := MOVED.search(text):
            self.held, self.places[moved[1]] = "", moved[2]
        if changed := CHANGED.search(text):
            self.ready.add(changed[1])

    def choose(self, menu: Sequence[str], rng: np.random.Generator) -> str:
        """The next command; one of the menu, or "" where there is nothing sensible to do."""
        here = [c.removeprefix("examine ") for c in menu if c.startswith("examine ")]
        rooms = sorted(
            {c.removeprefix("go to ") for c in menu if c.startswith("go to ")} | {*here} - {self.held}
        )
        if self.held and kind(self.held) == self.thing:
            return self._use(menu, rooms)
        if self.held:
            return next((c for c in menu if c.startswith("move ")), _any_go(menu, rng))
        wanted = sorted(
            t for t, place in self.places.items() if kind(t) == self.thing and not self._is_placed(place)
        )
        if wanted:
            place = self.places[wanted[0]]
            return self._reach(menu, f"take {wanted[0]} from {place}", place)
        left = [place for place in rooms if place not in self.searched]
        closed = [place for place in left if f"open {place}" in menu]
        if closed:
            return f"open {closed[0]}"
        return f"go to {left[int(rng.integers(len(left)))]}" if left else ""

    def _is_placed(self, place: str) -> bool:
        return not self.lamp and kind(place) == self.target

    def _use(self, menu: Sequence[str], rooms: Sequence[str]) -> str:
        if self.lamp:
            lamp = next((t for t in sorted(self.places) if kind(t) == self.target), "")
            if lamp:
                return self._reach(menu, f"use {lamp}", self.places[lamp])
            left = [place for place in rooms if place not in self.searched]
            closed = [place for place in left if f"open {place}" in menu]
            return f"open {closed[0]}" if closed else f"go to {left[0]}" if left else ""
        if self.verb and self.held not in self.ready:
            tool = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}[self.verb]
            place = next((r for r in rooms if kind(r) == tool), "")
            return self._reach(menu, f"{self.verb} {self.held} with {place}", place)
        goals = [r for r in rooms if kind(r) == self.target]
        begun = [
            p for t, p in sorted(self.places.items()) if kind(t) == self.thing and kind(p) == self.target
        ]
        place = next(iter([*begun, *goals]), "")
        return self._reach(menu, f"move {self.held} to {place}", place)

    def _reach(self, menu: Sequence[str], command: str, place: str) -> str:
        """The command where it is possible, or what leads to it."""
        for now in (command, f"open {place}", f"go to {place}"):
            if now in menu:
                return now
        return ""

    def note(self) -> str:
        """For the next episode."""
        places = [
            f"{thing} in {place}" for thing, place in sorted(self.first.items()) if kind(thing) == self.thing
        ]
        if places:
            return ", ".join(places)
        return (
            f"no {self.thing} in {', '.join(sorted(self.searched))}" if self.searched else f"no {self.thing}"
        )


def _any_go(menu: Sequence[str], rng: np.random.Generator) -> str:
    ways = [command for command in menu if command.startswith("go to ")]
    return ways[int(rng.integers(len(ways)))] if ways else ""


def player_of(task: str) -> Player:
    """ValueError for a sentence that no template makes."""
    for pattern in TASKS:
        if found := pattern.search(task):
            parts = found.groupdict()
            verb = VERBS.get(parts.get("how") or "", "")
            return Player(parts["thing"], parts["target"], verb, lamp=pattern is TASKS[0])
    raise ValueError(f"the expert cannot read the task {task!r}")


class AlfworldExpert(Expert):
    """Reads every text as it comes; see `Player`."""

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        self.players: list[Player | None] = [None] * num_trials

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], None]:
        menus = [[c[8:-9] for c in menu] for menu in self._lists(trials)]
        texts = self.env.observe(trials.copy())
        tasks = self.env.task_texts(trials.copy())
        replies = []
        for trial, text, task, menu in zip(trials.tolist(), texts, tasks, menus, strict=True):
            player = self.players[trial]
            if player is None:
                player = self.players[trial] = player_of(task)
            if _begins(text):
                player.start(bool(self.remembers[trial]))
            player.read(text)
            chosen = player.choose(menu, self.rng)
            replies.append(f"<action>{chosen}</action>" if chosen else "")
        seeds = self.rng.integers(0, 2**63, len(trials), dtype=np.uint64)
        lists = [[f"<action>{c}</action>" for c in menu if c not in IDLE] for menu in menus]
        return with_noise(replies, lists, self.noise[trials], seeds), None

    def _lists(self, trials: NDArray[np.int64]) -> list[list[str]]:
        menus: list[list[str]] = self.env.legal_actions(trials.copy())
        return menus

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        players = [self.players[trial] for trial in trials.tolist()]
        for player, text in zip(players, self.env.observe(trials.copy()), strict=True):
            if player is not None:
                player.read(text)  # of the last turn
        return [player.note() if player is not None else "" for player in players]


IDLE = ("look", "inventory", "help")


def _begins(text: str) -> bool:
    return text.startswith("You are in the middle of a room") and not text.endswith("you see nothing.")
