"""The rules of made household games in plain Python: enough of them to see that a plan wins."""

import re

from lamer_fast.envs.adapters.alfworld.names import short_names


class Household:
    """A game's facts by short names, played by commands; a command that cannot be is an AssertionError."""

    def __init__(self, problem):
        declared = re.findall(r"^\s+(\S+) - (object|receptacle)$", problem, re.M)
        self.name = short_names([name.lower() for name, _ in declared])
        start = problem.index("(:init")
        facts = re.findall(r"\((\w+) ([^()]+)\)", problem[start : problem.index("(:goal")])
        self.facts = {
            (predicate.lower(), *(self.name.get(a.lower(), a.lower()) for a in arguments.split()))
            for predicate, arguments in facts
        }
        self.at = next(f[2] for f in self.facts if f[0] == "atlocation")
        self.kind = {f[1]: f[2] for f in self.facts if f[0] in ("objecttype", "receptacletype")}
        self.place = {f[1]: f[2] for f in self.facts if f[0] == "receptacleatlocation"}
        self.inside = {f[1]: f[2] for f in self.facts if f[0] == "inreceptacle"}
        self.openable = {f[1] for f in self.facts if f[0] == "openable"}
        self.opened, self.holding, self.used = set(), None, set()
        self.states = set()  # (thing, clean, hot or cool)

    def reach(self, spot, needs_open=True):
        assert self.place[spot] == self.at, f"{spot} is elsewhere"
        assert not needs_open or spot not in self.openable or spot in self.opened, f"{spot} is closed"

    def play(self, command):
        verb, rest = command.split(" ", 1)
        if verb == "go":
            assert self.place[rest.removeprefix("to ")] != self.at
            self.at = self.place[rest.removeprefix("to ")]
        elif verb == "open":
            self.reach(rest, needs_open=False)
            assert rest in self.openable - self.opened
            self.opened.add(rest)
        elif verb == "take":
            thing, spot = rest.split(" from ")
            self.reach(spot)
            assert (
                self.holding is None
                and self.inside.pop(thing) == spot
                and ("pickupable", thing) in self.facts
            )
            self.holding = thing
        elif verb == "move":
            thing, spot = rest.split(" to ")
            self.reach(spot)
            assert self.holding == thing and ("cancontain", self.kind[spot], self.kind[thing]) in self.facts
            self.holding, self.inside[thing] = None, spot
        elif verb == "use":
            self.reach(self.inside[rest], needs_open=False)
            assert ("toggleable", rest) in self.facts
            self.used.add(rest)
        else:
            thing, tool = rest.split(" with ")
            self.reach(tool, needs_open=False)
            can, kind = {"clean": ("cleanable", "sinkbasintype"), "heat": ("heatable", "microwavetype"),
                         "cool": ("coolable", "fridgetype")}[verb]  # fmt: skip
            assert self.holding == thing and (can, thing) in self.facts and self.kind[tool] == kind
            self.states.add((thing, verb))

    def won(self, task_type, thing, target, lamp):
        thing, target, lamp = (f"{word}type".lower() for word in (thing, target, lamp))
        if task_type == "look_at_obj_in_light":
            lit = any(self.kind[u] == lamp and self.place[self.inside[u]] == self.at for u in self.used)
            return lit and self.holding is not None and self.kind[self.holding] == thing
        verb = {"pick_c": task_type[5:].split("_")[0], "pick_h": "heat"}.get(task_type[:6])
        there = [
            spot
            for o, spot in self.inside.items()
            if (self.kind[o], self.kind[spot]) == (thing, target)
            and (verb is None or (o, verb) in self.states)
        ]
        most = max(map(there.count, there), default=0)
        return most >= (2 if task_type == "pick_two_obj_and_place" else 1)
