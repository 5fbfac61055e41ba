"""The worker's side of a pool: boards of a single environment, played as one line of JSON after another says.

    {"factory": ..., "options": {...}, "split": ...}      first, answered by what the environment is
    ["reset", board, seed, replies, state]  ["restart", board]  ["step", board, reply]
    ["expert", board]  ["expert_note", board]  ["snapshot", board]

Each is answered by one line, {"view": what is seen now, ...} or {"error": why the board is lost}. A worker
is a process of its own with a pipe of its own: what an environment prints goes nowhere, and with the end of
the trainer, however it ends, the kernel ends the worker.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from lamer_fast.envs.contract import MAX_REWARD, describe
from lamer_fast.envs.generators import Generators, from_json, to_json
from lamer_fast.envs.protocol import Turn
from lamer_fast.envs.registry import entry, options_from
from lamer_fast.text import one_line

MAX_CHARS = 10_000_000  # of a text, no model reads as much; bytes of a snapshot
SNAPSHOT_TURNS = 16  # a board with snapshots is never played again from further back
OPTIONAL = ("anchor", "task", "task_text", "legal_actions")
ASKED = (
    "expert",
    "expert_note",
    "snapshot",
    "restore",
)  # not part of what is seen: answered when somebody wants to know
View = list[Any]  # text, then the answer of each of OPTIONAL that the environment has


class WrongAnswer(Exception):
    """An environment answered what it may not; the message says it all."""


class Board:
    """One board and its share of the process: the global generators of `random` and numpy are its own.

    A *state* is JSON: the environment's own snapshot, the generators now and as `reset` left them, and the
    turn that ended the episode.
    """

    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory
        self.env: Any = None
        self.last: list[Any] = []  # the turn that ended the episode
        self.turns = 0  # of the episode
        self._generators = Generators()
        self._start: Any = None  # these as `reset` left them

    def call(self, name: str, *arguments: Any) -> dict[str, Any]:
        """The answer for the pool. A board whose call fails is made anew at its next reset."""
        self._generators.take()
        try:
            return getattr(self, name)(*arguments)  # type: ignore[no-any-return]
        except WrongAnswer as error:
            message = str(error)
        except (Exception, SystemExit) as error:
            message = f"{name}() {describe(error)}"
        finally:
            self._generators.keep()
        self.env = None
        return {"error": message}

    def reset(self, seed: int, replies: list[str], state: list[Any] | None = None) -> dict[str, Any]:
        """A board of its own, from a state of it if there is one, and played on by `replies`."""
        if self.env is None:
            self._generators.seed(0)
            self.env = self.factory()
        self.turns = 0
        if state is None:
            self._generators.seed(seed)
            self.env.reset(seed)
            self.last = []
            answer = {"view": self.view()}
            answer["start"] = answer["view"]
            self._start = self._generators.get()
        else:
            own, now, start, self.last = state
            self.env.restore(base64.b64decode(own))
            self._start = from_json(start)
            self._generators.set(from_json(now))
            answer = {"view": self.view()}
        for reply in replies:
            answer["view"] = self.step(reply)["view"]
        return answer

    def restart(self) -> dict[str, Any]:
        self._must_live()
        self._generators.set(self._start)
        self.env.restart()
        self.last, self.turns = [], 0
        return {"view": self.view()}

    def step(self, reply: str) -> dict[str, Any]:
        self._must_live()
        if self.last:  # over: nothing happens any more
            return {"turn": [0.0, *self.last[1:4], True], "view": self.view()}
        turn = checked(self.env.step(reply))
        if turn[1]:
            self.last = turn
        self.turns += 1
        answer = {"turn": turn, "view": self.view()}
        if self.turns % SNAPSHOT_TURNS == 0 and self._has_snapshots():
            answer["state"] = self.snapshot()["said"]
        return answer

    def snapshot(self) -> dict[str, Any]:
        self._must_live()
        now = self._generators.get()
        data = self.env.snapshot()
        if not isinstance(data, bytes):
            raise WrongAnswer(f"snapshot() returned a value of type {type(data).__name__}, expected bytes")
        if len(data) > MAX_CHARS:
            raise WrongAnswer(f"snapshot() returned {len(data):,} bytes, over {MAX_CHARS:,}")
        self._generators.set(now)
        own = base64.b64encode(data).decode()
        return {"said": [own, to_json(now), to_json(self._start), self.last]}

    def _has_snapshots(self) -> bool:
        return all(callable(getattr(self.env, name, None)) for name in ("snapshot", "restore"))

    def expert(self) -> dict[str, Any]:
        return self._ask("expert")

    def expert_note(self) -> dict[str, Any]:
        return self._ask("expert_note")

    def _ask(self, name: str) -> dict[str, Any]:
        """What it draws changes nothing of the game."""
        self._must_live()
        before = self._generators.get()
        try:
            return {"said": text(name, getattr(self.env, name)())}
        finally:
            self._generators.set(before)

    def view(self) -> View:
        found = [text("observe", self.env.observe())]
        for name in OPTIONAL:
            if callable(method := getattr(self.env, name, None)):
                found.append(CHECKS[name](method()))
        return found

    def _must_live(self) -> None:
        if self.env is None:
            raise WrongAnswer("the board has no seed, or has failed")


def checked(turn: Any) -> list[Any]:
    """[reward, done, truncated, success, valid] of a Turn; WrongAnswer where its values are none."""
    if not isinstance(turn, Turn):
        raise WrongAnswer(f"step() returned a value of type {type(turn).__name__}, expected a Turn")
    reward = turn.reward
    if isinstance(reward, bool) or not isinstance(reward, int | float | np.integer | np.floating):
        raise WrongAnswer(f"step() returned a reward of type {type(reward).__name__}, expected a number")
    if not abs(reward) <= MAX_REWARD:  # also catches nan
        raise WrongAnswer(
            f"step() returned reward {reward}, expected a number from -{MAX_REWARD:g} to {MAX_REWARD:g}"
        )
    flags = {name: getattr(turn, name) for name in ("done", "truncated", "success", "valid")}
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise WrongAnswer(f"step() returned {name} = {one_line(repr(value))}, expected True or False")
        if name in ("success", "truncated") and value and not flags["done"]:
            raise WrongAnswer(f"step() returned {name} without done")
    return [float(reward), *map(bool, flags.values())]


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise WrongAnswer(f"{name}() returned a value of type {type(value).__name__}, expected a text")
    if len(value) > MAX_CHARS:
        raise WrongAnswer(f"{name}() returned a text of {len(value):,} characters, over {MAX_CHARS:,}")
    return value


def integer(name: str, low: int, high: int, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value < high:
        raise WrongAnswer(f"{name}() returned {one_line(repr(value))}, expected an int in [{low}, {high})")
    return int(value)


def texts(name: str, values: Any) -> list[str]:
    if not isinstance(values, list | tuple):
        raise WrongAnswer(f"{name}() returned a value of type {type(values).__name__}, expected a list")
    if sum(len(text(name, value)) for value in values) > MAX_CHARS:
        raise WrongAnswer(f"{name}() returned texts of more than {MAX_CHARS:,} characters")
    return list(values)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "anchor": partial(integer, "anchor", -(2**63), 2**63),
    "task": partial(integer, "task", 0, 2**64),
    "task_text": partial(text, "task_text"),
    "legal_actions": partial(texts, "legal_actions"),
}
assert tuple(CHECKS) == OPTIONAL


def introduction(factory: Callable[[], Any]) -> dict[str, Any]:
    """What the pool must know of the environment, from a board that is made for it."""
    try:
        env = factory()
        missing = [
            name
            for name in ("reset", "restart", "step", "observe", "task_prompt")
            if not callable(getattr(env, name, None))
        ]
        if missing:
            return {"error": f"{type(env).__name__} has no {', '.join(f'{name}()' for name in missing)}"}
        has, asked = ([n for n in names if callable(getattr(env, n, None))] for names in (OPTIONAL, ASKED))
        return {"has": has, "asked": asked, "prompt": text("task_prompt", env.task_prompt())}
    except WrongAnswer as error:
        return {"error": str(error)}
    except (Exception, SystemExit) as error:
        return {"error": describe(error)}


def serve(pipe: socket.socket) -> None:
    lines = pipe.makefile("rb", buffering=1 << 16)
    first = lines.readline()
    if not first:
        return
    factory = factory_of(**json.loads(first))
    boards: dict[int, Board] = {}
    answer = introduction(factory)
    while True:
        pipe.sendall(json.dumps(answer).encode() + b"\n")  # noqa: TID251  # for the pool
        line = lines.readline()
        if not line:
            return
        name, board, *arguments = json.loads(line)
        if board not in boards:
            boards[board] = Board(factory)
        answer = boards[board].call(name, *arguments)


def factory_of(name: str, options: dict[str, Any], split: str | None) -> Callable[[], Any]:
    """Makes one board of what `env.name` calls; importing it may fail, which is then said of each."""

    def make() -> Any:
        return entry(name).board(options_from(options), split)

    return make


def end_with(life: int) -> None:
    """The kernel's signal that the other end of pipe `life` is closed ends this process, whatever it does."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([life], [], [], 0)[0]:  # closed before
        os._exit(1)


def main(pipe: int, life: int) -> None:
    end_with(life)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer's to hear
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # also what C code prints
    with socket.socket(fileno=pipe) as connection, suppress(ConnectionError):  # the pool is no more
        serve(connection)
