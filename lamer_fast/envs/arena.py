"""One board of an environment of this package, used as TextArena's single-player environments are.

    from lamer_fast.envs.arena import ArenaEnv

    env = ArenaEnv("minesweeper", split="test", panel=64)
    env.reset(num_players=1, seed=0)
    done = False
    while not done:
        player_id, messages = env.get_observation()
        done, info = env.step(action=policy("\\n".join(text for _, text, _ in messages)))
    rewards, game_info = env.close()

`register()` adds the games to TextArena's own list: `textarena.make("lamer_fast/Minesweeper-v0")` then gives
one in TextArena's wrapper that joins all messages so far into one text. The reward is 1 for a solved board,
else 0; what the game itself paid is `return` in the info.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lamer_fast.envs.panel import Panel
from lamer_fast.envs.panel import panel as panel_of
from lamer_fast.envs.registry import NATIVE, default_options, make_env
from lamer_fast.fields import check_ranges, settings_of

PLAYER, GAME = 0, -1  # who wrote a message, as TextArena numbers them
Message = tuple[int, str, Any]
MAX_SEED = 2**64


@dataclass
class ArenaState:
    """What TextArena's wrappers look at."""

    role_mapping: dict[int, str] = field(default_factory=lambda: {PLAYER: "Player 0", GAME: "GAME"})
    num_players: int = 1
    current_player_id: int = PLAYER
    turn: int = 0
    done: bool = True
    max_turns: int | None = None
    game_state: dict[str, Any] = field(default_factory=dict)
    observations: list[Message] = field(default_factory=list)
    logs: list[tuple[int, str]] = field(default_factory=list)


class ArenaEnv:
    """`reset`, `get_observation`, `step`, `close`, and `restart` for another episode of the same task.

    Args:
        name: what `env.name` may be: a game, or `package.module:factory` of your own.
        split: "train", "valid" or "test"; None: all tasks.
        panel: seed s is task s modulo `panel` of the first so many distinct ones of `split`; the digest is in
            the info. None: any seed is a board.
        max_turns: an episode ends as lost after so many turns.
        **options: of the environment, as `env.*` in a recipe.
    """

    def __init__(
        self,
        name: str,
        *,
        split: str | None = None,
        panel: int | None = None,
        max_turns: int | None = None,
        **options: Any,
    ) -> None:
        if panel is not None and split is None:
            raise ValueError(f"panel={panel} needs a split: 'train', 'valid' or 'test'")
        for key, least in (("panel", panel), ("max_turns", max_turns)):
            if least is not None and least < 1:
                raise ValueError(f"{key} must be None or at least 1, got {least}")
        self.options = _options(name, options)
        self.panel: Panel | None = None if panel is None else panel_of(self.options, split or "", panel)
        self._env: Any = make_env(self.options, 1, split=split)
        self._board = np.zeros(1, np.int64)
        self._rng = np.random.default_rng()
        self._rewards: dict[int, float] | None = None
        self.state = ArenaState(max_turns=max_turns)
        self.game_info: dict[int, dict[str, Any]] = {}

    def reset(self, num_players: int = 1, seed: int | None = None) -> None:
        """Board, or task of the panel, `seed`; None: any."""
        if num_players != 1:
            raise ValueError(f"num_players = {num_players}, but this is a game for 1 player")
        if seed is None:
            seed = int(self._rng.integers(0, MAX_SEED, dtype=np.uint64, endpoint=False))
        if seed < 0:
            raise ValueError(f"seed must be None or at least 0, got {seed}")
        idx = None if self.panel is None else seed % len(self.panel)
        drawn = seed % MAX_SEED if self.panel is None else int(self.panel.seeds[idx])
        self._env.reset(np.array([drawn], np.uint64), self._board)
        self._begin(idx)

    def restart(self) -> None:
        """Another episode of the same task, from its start."""
        if not self.game_info:
            raise ValueError("restart() before the first reset()")
        self._env.restart(self._board)
        self._begin(self.game_info[PLAYER].get("panel_idx"))

    def get_observation(self) -> tuple[int, list[Message]]:
        """(0, what has been said since the last call): (who, text, kind) each, the kinds are TextArena's."""
        said, self.state.observations = self.state.observations, []
        return PLAYER, said

    def step(self, action: str) -> tuple[bool, dict[str, Any]]:
        """(done, {"reward", "valid", "success"} of the turn). A finished game ignores it.

        A reply that cannot be read changes nothing, counts as a turn, and does not end the game.
        """
        state, info = self.state, self.game_info.get(PLAYER)
        if info is None:
            raise ValueError("step() before the first reset()")
        if state.done:
            return True, {"reward": 0.0, "valid": True, "success": info["success"]}
        self._say(action, "PLAYER_ACTION", PLAYER)
        out = self._env.step([action], self._board)
        if out.error[0] is not None:
            raise RuntimeError(f"the environment failed: {out.error[0]}")
        reward, valid, success = float(out.rewards[0]), bool(out.valid[0]), bool(out.success[0])
        state.turn += 1
        state.done = bool(out.done[0]) or state.turn == state.max_turns
        info["turn_count"] = state.turn
        info["return"] += reward
        info["success"] = success
        info["invalid_move"] = not valid
        if not valid:
            self._say("This reply could not be read and changed nothing.", "GAME_ADMIN")
        self._say(self._env.observe(self._board)[0], "GAME_BOARD")
        if state.done:
            self._rewards = {PLAYER: float(success)}
            self._say("Solved." if success else "Not solved.", "GAME_ADMIN")
        return state.done, {"reward": reward, "valid": valid, "success": success}

    def close(self) -> tuple[dict[int, float] | None, dict[int, dict[str, Any]]]:
        """(rewards by player, None while the game goes on; facts of the episode by player)."""
        return self._rewards, self.game_info

    def _begin(self, panel_idx: int | None) -> None:
        self.state = ArenaState(max_turns=self.state.max_turns, done=False)
        self._rewards = None
        info = {"role": "Player 0", "invalid_move": False, "turn_count": 0, "success": False, "return": 0.0}
        if hasattr(self._env, "tasks"):
            info["task"] = int(self._env.tasks(self._board)[0])
        if self.panel is not None:
            info |= {"panel": self.panel.digest, "panel_idx": panel_idx}
        self.game_info = {PLAYER: info}
        asks = self._env.task_texts(self._board) if hasattr(self._env, "task_texts") else []
        self._say("\n\n".join([self._env.task_prompt(), *asks]), "PROMPT")
        self._say(self._env.observe(self._board)[0], "GAME_BOARD")

    def _say(self, text: str, kind: str, who: int = GAME) -> None:
        self.state.observations.append((who, text, _kind(kind)))
        self.state.logs.append((who, text))


def register() -> None:
    """Adds `lamer_fast/Sokoban-v0` and the others to TextArena's list, and `-raw` without wrappers.

    Raises:
        ImportError: TextArena is not installed.
    """
    from textarena.envs.registration import ENV_REGISTRY, register_with_versions
    from textarena.wrappers import LLMObservationWrapper

    for game in NATIVE:
        name = f"lamer_fast/{game.capitalize()}-v0"
        if name not in ENV_REGISTRY:
            wrappers = {"default": [LLMObservationWrapper], "-raw": []}
            register_with_versions(name, "lamer_fast.envs.arena:ArenaEnv", wrappers=wrappers, name=game)


def _options(name: str, given: dict[str, Any]) -> Any:
    options = default_options(name)
    settings = settings_of(options)
    unknown = [key for key in given if key not in settings]
    if unknown:
        raise TypeError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(settings)}")
    options = replace(options, **{key: settings[key].convert(value) for key, value in given.items()})
    check_ranges(options)
    options.validate()
    return options


def _kind(name: str) -> Any:
    """TextArena's own kind of message where it has been imported, else its name."""
    core = sys.modules.get("textarena.core")
    return name if core is None else core.ObservationType[name]
