"""One household in the package, as a `TextEnv`, in a worker process that plays one call at a time."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from typing import Any

from lamer_fast.envs.adapters.alfworld.games import Games, task_id
from lamer_fast.envs.adapters.alfworld.prompts import PROMPTS
from lamer_fast.envs.adapters.world import SUCCESS_REWARD
from lamer_fast.envs.adapters.world import command as command_of
from lamer_fast.envs.protocol import Turn

WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
TASK = "Your task is to: "
NOTHING = "Nothing happens."


class Board:
    """The board of seed s plays the game s modulo the number of its split's games.

    Args:
        names: of the games of its split, which `source` has.
        prompt: which text of PROMPTS.
    """

    def __init__(self, source: Games, names: Sequence[str], prompt: str) -> None:
        self.games, self.names, self.prompt = source, names, prompt
        self.name = ""
        self.env = new_env()

    def reset(self, seed: int) -> None:
        name = self.names[seed % len(self.names)]
        if name != self.name:
            content = self.games.content(name)
            self.id, self.name = task_id(content), ""
            try:
                self.env.load(content)
            except KeyError as error:  # the planner's own value names where nothing leads to the goal
                raise ValueError(f"game {name}: nothing can be done to reach its goal ({error})") from error
            self.name = name
        self.restart()

    def restart(self) -> None:
        state = self.env.reset()
        self.text, self.task_said = split_intro(state.feedback)
        self.menu: list[str] = state["admissible_commands"]  # empty once the game is over

    def step(self, reply: str) -> Turn:
        command = (command_of(reply) or "").lower()
        if not command:
            return Turn(0.0, valid=False)
        if command not in self.menu:  # as the package says, which is asked about its own commands alone
            self.text = NOTHING
            return Turn(0.0)
        state, _, _ = self.env.step(command)
        won = bool(state["won"])
        self.text, self.menu = state.feedback.strip(), [] if won else state["admissible_commands"]
        return Turn(SUCCESS_REWARD * won, done=won, success=won)

    def observe(self) -> str:
        return self.text

    def task_prompt(self) -> str:
        return PROMPTS[self.prompt]

    def task_text(self) -> str:
        return self.task_said

    def task(self) -> int:
        return self.id

    def legal_actions(self) -> list[str]:
        return [f"<action>{command}</action>" for command in self.menu if command != "help"]


def split_intro(said: str) -> tuple[str, str]:
    """What is said at the start, without the welcome, as what is seen and the task."""
    seen, _, task = said.removeprefix(WELCOME).strip().rpartition(TASK)
    return seen.strip(), f"{TASK}{task.strip()}"


def new_env() -> Any:
    """The package's environment of one board, with short names as its own training uses."""
    scratch()
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv

    from lamer_fast.envs.adapters.alfworld.caches import install

    install()
    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    return AlfredDemangler(PddlEnv(infos), shuffle=False)


@cache
def scratch() -> str:
    """A folder of this process, where it works and keeps its temporary files; it goes with the process."""
    path = tempfile.mkdtemp(prefix="lamer-fast-alfworld-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    os.environ["TMPDIR"] = tempfile.tempdir = path
    os.chdir(path)
    return path
