"""examine: `check_env` and more in processes of their own: what kills or stops a process is found too."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from lamer_fast.envs.check import check_env
from lamer_fast.envs.contract import EnvError, describe
from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.panel import panel
from lamer_fast.envs.player import Player
from lamer_fast.envs.registry import make_env, options_from
from lamer_fast.fields import to_flat

BOARDS_OF_A_SPLIT = 256  # drawn to see whether splits have a task in common


@dataclass(frozen=True)
class Examination:
    replies: Sequence[str] = ()
    """Texts that `step` should be able to parse, as for `check_env`."""
    num_boards: int = 8
    num_turns: int = 12
    seed: int = 0
    speed_s: float = 1.0
    """Seconds over which turns are counted."""
    timeout_s: float = 60.0
    """Without a sign of life for so long a process is ended."""


@dataclass
class Examined:
    violations: list[str] = field(default_factory=list)
    turns_per_s: float | None = None


def examine(options: EnvOptions, how: Examination) -> Examined:
    """What `check_env` finds; splits that overlap, another game in a new process, death of the process, no
    answer; and how many turns it plays in a second."""
    result = Examined()
    stories = []
    for hash_seed, whole in (("1", True), ("2", False)):
        for kind, content in _messages(to_flat(options), how, hash_seed, whole):
            if kind == "wrong":
                result.violations.append(content)
            elif kind == "turns_per_s":
                result.turns_per_s = content
            elif kind == "story":
                stories.append(content)
        if len(stories) == 0:
            return result  # the second process would end as the first
    if len(set(stories)) > 1:
        result.violations.append("the same seeds and replies lead to another game in a new process")
    result.violations = list(dict.fromkeys(result.violations))
    return result


def _messages(
    values: Mapping[str, Any], how: Examination, hash_seed: str, whole: bool
) -> Iterator[tuple[str, Any]]:
    """What a process that plays says, and at its end what became of it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_play, args=(there, dict(values), how, whole), daemon=True)
    with _environment(PYTHONHASHSEED=hash_seed):
        child.start()
    there.close()
    doing = "starting"
    try:
        while True:
            if not here.poll(how.timeout_s):
                yield "wrong", f"{doing}: no answer for {how.timeout_s:g} s"
                return
            kind, content = here.recv()
            if kind == "end":
                return
            if kind == "doing":
                doing = content
            else:
                yield kind, content
    except EOFError:
        child.join()
        code = child.exitcode or 0
        how_it_went = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        yield "wrong", f"{doing}: the process ended ({how_it_went})"
    finally:
        child.kill()
        child.join()


def _play(pipe: Connection, values: Mapping[str, Any], how: Examination, whole: bool) -> None:
    def doing(what: str) -> None:
        pipe.send(("doing", what))

    try:
        doing("making the boards")
        options = options_from(values)
        env = make_env(options, how.num_boards, split="train")
        player = Player(env, how.replies, how.num_turns, how.seed)
        if whole:
            for sentence in _violations(options, env, how, doing):
                pipe.send(("wrong", sentence))
        doing("a game")
        story = player.game(beside=True), player.game(before=how.num_turns)
        pipe.send(("story", hashlib.blake2b(repr(story).encode()).hexdigest()))
        if whole:
            doing("turns in a row")
            pipe.send(("turns_per_s", _turns_per_s(player, how.speed_s)))
    except EnvError as error:
        pipe.send(("wrong", str(error)))
    except (Exception, SystemExit) as error:
        pipe.send(("wrong", describe(error)))
    pipe.send(("end", None))


def _violations(
    options: EnvOptions, env: Any, how: Examination, doing: Callable[[str], None]
) -> Iterator[str]:
    def another(num_envs: int) -> Any:
        return make_env(options, num_envs, split="train")

    yield from check_env(
        env, replies=how.replies, num_turns=how.num_turns, seed=how.seed, make=another, doing=doing
    )
    try:
        yield from _splits(options, doing)
    except EnvError as error:
        yield str(error)


def _splits(options: EnvOptions, doing: Callable[[str], None]) -> Iterator[str]:
    tasks: dict[str, set[int]] = {}
    for split in SPLITS:
        doing(f"the tasks of split {split}")
        env: Any = make_env(options, BOARDS_OF_A_SPLIT, split=split)
        if not hasattr(env, "tasks"):
            return
        env.reset(np.arange(BOARDS_OF_A_SPLIT, dtype=np.uint64))
        tasks[split] = set(env.tasks(np.arange(BOARDS_OF_A_SPLIT)).tolist())
    for split, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        common = sorted(tasks[split] & tasks[other])
        if common:
            yield f"splits {split} and {other} have tasks in common, the first is {common[0]}"
    played = panel(options, "valid", 16)
    if len(set(played.tasks.tolist())) < len(played):
        yield f"seeds() of split valid gives a task twice: {played.tasks.tolist()}"


def _turns_per_s(player: Player, seconds: float) -> float:
    """Turns of all boards, `step` and `observe`, without the choice of replies."""
    player.start()
    spent, turns = 0.0, 0
    until = time.perf_counter() + 10 * seconds
    while spent < seconds and time.perf_counter() < until:
        replies = player.choose(player.all)
        started = time.perf_counter()
        out = player.step(replies, player.all)
        player.observe(player.all)
        spent += time.perf_counter() - started
        turns += len(player.all)
        if out.done.any():
            player.restart(player.all[out.done])
    return turns / spent


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
