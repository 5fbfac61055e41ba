"""Gymnasium: environments with discrete actions, by their text rendering or a `describe(obs)` of one's own.

    env.name = "gymnasium"
    env.id = "minigrid:BabyAI-GoToRedBall-v0"

FrozenLake (a new lake for every seed), Taxi, CliffWalking, MiniGrid and BabyAI are known by name: their
actions, rules and texts need no options.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from lamer_fast.envs.adapters import gymnasium_texts as texts
from lamer_fast.envs.adapters.world import (
    SUCCESS_REWARD,
    World,
    WorldOptions,
    command,
    digest,
    plain,
    seed_generators,
)
from lamer_fast.envs.factory import find
from lamer_fast.envs.protocol import Turn
from lamer_fast.fields import Range

REPLY = "Reply with one of these actions in action tags, as in <action>{first}</action>: {names}."


@dataclass(frozen=True)
class Options(WorldOptions):
    id: str = "FrozenLake-v1"
    """A registered environment; `minigrid:BabyAI-GoToRedBall-v0` imports the module that registers it."""
    arguments: str = ""
    """Arguments of its constructor, as a JSON object: `{"size": 4, "is_slippery": false}`."""
    describe: str = ""
    """`package.module:function` that turns an observation into text; by default its text rendering. The first
    text of a board identifies its task."""
    actions: str = ""
    """Names of its actions from 0 on, separated by commas; by default known names, or numbers."""
    rules: str = ""
    """Description of the task for the model; by default the known one."""
    success_above: float | None = None
    """An episode that ends by its rules with a last reward above this is a success; by default 0."""
    max_steps: Annotated[int, Range(1)] | None = None
    """Maximum number of actions in an episode; by default as registered."""

    def validate(self) -> None:
        if not isinstance(_object(self.arguments), dict):
            raise ValueError(
                f"env.arguments = {self.arguments!r}, must be a JSON object of arguments by name"
            )


def _object(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return None


@dataclass(frozen=True)
class Known:
    """What is known of an environment; `texts` has the functions."""

    rules: str = ""
    actions: tuple[str, ...] = ()
    success_above: float = 0.0
    describe: Callable[[Any], str] | None = None
    render: Callable[[str], str] = plain
    arguments: Callable[[int, dict[str, Any]], dict[str, Any]] | None = None  # of a board, by its seed
    identity: Callable[[Any], Any] | None = None  # of a task, where its first text does not say all


GRID = Known(texts.GRID_RULES, texts.GRID_ACTIONS, describe=texts.grid, identity=texts.grid_identity)
KNOWN = {
    "FrozenLake": Known(
        texts.LAKE_RULES, texts.LAKE_ACTIONS, render=texts.lake, arguments=texts.lake_arguments
    ),
    "Taxi": Known(texts.TAXI_RULES, texts.TAXI_ACTIONS, describe=texts.taxi),
    "CliffWalking": Known(texts.CLIFF_RULES, texts.CLIFF_ACTIONS, success_above=-2.0),
    "MiniGrid": GRID,
    "BabyAI": GRID,
}


def known(name: str) -> Known:
    return KNOWN.get(name.rpartition(":")[2].partition("-")[0], Known())


class Board:
    """One environment of Gymnasium as a `TextEnv`."""

    def __init__(self, options: Options) -> None:
        import gymnasium

        self.options, self.known = options, known(options.id)
        self.env: Any = None
        self.given = _object(options.arguments)
        if options.max_steps is not None:
            self.given["max_episode_steps"] = options.max_steps
        self.describe = find(options.describe, "env.describe") if options.describe else self.known.describe
        if self.describe is None:
            modes = self._make(0).metadata.get("render_modes") or []
            if "ansi" not in modes:
                raise ValueError(
                    f"{options.id} has no text rendering (it has {', '.join(modes) or 'none'}): "
                    "env.describe must name a function that writes an observation"
                )
            self.given["render_mode"], self.env = "ansi", None
        space = self._make(0).action_space
        if not isinstance(space, gymnasium.spaces.Discrete):
            raise ValueError(f"{options.id} has actions of {space}, expected a Discrete space")
        self.first = int(space.start)
        names = [name.strip().lower() for name in options.actions.split(",")] if options.actions else []
        self.names = names or list(self.known.actions) or [str(i) for i in range(int(space.n))]
        if len(self.names) != space.n or len(set(self.names)) != len(self.names):
            raise ValueError(f"{options.id} has {space.n} actions, env.actions names {', '.join(self.names)}")
        self.above = self.known.success_above if options.success_above is None else options.success_above

    def _arguments(self, seed: int) -> dict[str, Any]:
        return self.known.arguments(seed, dict(self.given)) if self.known.arguments else self.given

    def _make(self, seed: int) -> Any:
        import gymnasium

        if self.env is None or self.known.arguments:  # else one object plays all boards, one after the other
            self.env = gymnasium.make(self.options.id, disable_env_checker=True, **self._arguments(seed))
        return self.env

    def reset(self, seed: int) -> None:
        self.seed = seed % 2**31
        self._make(self.seed)
        self.restart()
        identity = self.known.identity
        self.id = digest(self.text if identity is None else identity(self.env.unwrapped))

    def restart(self) -> None:
        seed_generators(self.seed)
        observation, self.info = self.env.reset(seed=self.seed)
        self.over = False
        self._look(observation)

    def _look(self, observation: Any) -> None:
        if self.describe is None:
            self.text = self.known.render(self.env.render())
            return
        text = self.describe(observation)
        if not isinstance(text, str):
            raise TypeError(f"env.describe returned a value of type {type(text).__name__}, expected a text")
        self.text = plain(text)

    def step(self, reply: str) -> Turn:
        name = (command(reply) or "").lower()
        if name not in self.names:
            return Turn(0.0, valid=False)
        chosen = self.first + self.names.index(name)
        observation, reward, terminated, truncated, self.info = self.env.step(chosen)
        self._look(observation)
        reward, cut = float(reward), bool(truncated) and not terminated
        success = bool(terminated) and reward > self.above
        if self.options.rewards == "success":
            reward = SUCCESS_REWARD * success
        self.over = bool(terminated) or cut
        return Turn(reward, self.over, success, cut)

    def observe(self) -> str:
        return self.text

    def task_prompt(self) -> str:
        form = REPLY.format(first=self.names[0], names=", ".join(self.names))
        return "\n".join(filter(None, (self.options.rules or self.known.rules, form)))

    def task(self) -> int:
        return self.id

    def legal_actions(self) -> list[str]:
        if self.over:
            return []
        mask = self.info.get("action_mask")
        open_ = [True] * len(self.names) if mask is None else [bool(m) for m in mask]
        return [f"<action>{n}</action>" for n, is_open in zip(self.names, open_, strict=True) if is_open]


class Gymnasium(World):
    """Any Gymnasium environment with discrete actions and a text: FrozenLake, Taxi, BabyAI, your own."""

    name = "gymnasium"
    options = Options
    packages = MappingProxyType({"gymnasium": "gym", "minigrid": "minigrid"})
    success = "the episode ends by its rules with a last reward above env.success_above"
    turns = "as registered, or env.max_steps; an episode that is cut off counts as truncated"

    def board(self, options: Options, split: str | None) -> Board:
        return Board(options)

    def needed(self, options: Options) -> Mapping[str, str]:
        module = options.id.rpartition(":")[0]
        return {name: extra for name, extra in self.packages.items() if name in ("gymnasium", module)}

    def summary(self, options: Options) -> str:
        return f"{options.id} {options.arguments}".rstrip()


ENTRY = Gymnasium()
