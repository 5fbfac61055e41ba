"""TextArena: its games for one player, by id. A game is never shown a reply that it cannot play.

    env.name = "textarena"
    env.game = "Mastermind-v0"

Its games share the generator of `random`, hand out each message once, print, and end an episode at the second
reply in a row that they reject. Here a board has a generator of its own, a rejected reply is undone, and a
game that starts anew is a copy of the one that was drawn.
"""

from __future__ import annotations

import contextlib
import copy
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lamer_fast.envs.adapters.world import (
    SUCCESS_REWARD,
    World,
    WorldOptions,
    command,
    digest,
    plain,
    seed_generators,
)
from lamer_fast.envs.protocol import Turn

PROMPT = (
    "Play the game by its rules below. Put what they want in square brackets into action tags: "
    "<action>[your move]</action>."
)
FIRST = "The game begins."
# games that draw their hidden part after the first move: there the seed is part of the task
DRAWN_LATER = ("Minesweeper",)


@dataclass(frozen=True)
class Options(WorldOptions):
    game: str = "Mastermind-v0"
    """Id of a game for one player; `lamer-fast envs data textarena` lists the games that start here."""
    success_reward: float = 1.0
    """A game that ends with at least this reward is a success: the package has no other sign of one."""


class Board:
    """One game of TextArena as a `TextEnv`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.game = start(options.game, 0)  # whatever is wrong with it is told now

    def reset(self, seed: int) -> None:
        self.drawn = start(self.options.game, seed % 2**31)
        others = {name: value for name, value in vars(self.drawn).items() if name != "state"}
        messages = _messages(self.drawn)
        self.rules = "\n".join(text for kind, text in messages if kind == "PROMPT")
        self.first = "\n".join(text for kind, text in messages if kind != "PROMPT") or FIRST
        later = seed if self.options.game.startswith(DRAWN_LATER) else None
        self.id = digest(self.rules, self.first, self.drawn.state.game_state, others, later)
        self.restart()

    def restart(self) -> None:
        self.game, self.text = copy.deepcopy(self.drawn), self.first

    def step(self, reply: str) -> Turn:
        move = command(reply)
        if move is None:
            return Turn(0.0, valid=False)
        before = copy.deepcopy(self.game), random.getstate()
        with _quiet():
            done, _ = self.game.step(move if "[" in move else f"[{move}]")
        state = self.game.state
        if state.error_count > 0 or state.game_info[0]["invalid_move"]:
            self.game = before[0]
            random.setstate(before[1])
            return Turn(0.0, valid=False)
        messages = [text for _, text in _messages(self.game)]
        if not done:
            self.text = "\n".join(messages) or self.text
            return Turn(0.0)
        reward = float(state.rewards[0])
        self.text = "\n".join([*messages, plain(str(state.game_info[0].get("reason") or ""))]).strip()
        success = reward >= self.options.success_reward
        cut = not success and state.max_turns is not None and state.turn >= state.max_turns
        if self.options.rewards == "success":
            reward = SUCCESS_REWARD * success
        return Turn(reward, True, success, cut)

    def observe(self) -> str:
        return self.text

    def task_prompt(self) -> str:
        return PROMPT

    def task_text(self) -> str:
        return self.rules

    def task(self) -> int:
        return self.id


def start(name: str, seed: int) -> Any:
    """The game of a seed, without the package's wrappers.

    Raises:
        ValueError: there is no such game, it is for more players, or it does not start here.
    """
    import textarena

    known = textarena.envs.registration.ENV_REGISTRY
    full = f"{name.removesuffix('-raw')}-raw"
    if full not in known:
        family = name.partition("-")[0].lower()
        near = [i.removesuffix("-raw") for i in known if i.endswith("-raw") and i.lower().startswith(family)]
        raise ValueError(
            f"env.game = {name!r}: TextArena has no such game; near it: {', '.join(near) or 'none'}"
        )
    seed_generators(seed)
    try:
        with _quiet():
            game = textarena.make(full)
            game.reset(num_players=1, seed=seed)
    except Exception as error:
        said = " ".join(str(error).replace("*", " ").split())
        why = (
            "it wants more players"
            if isinstance(error, AssertionError)
            else f"{type(error).__name__}: {said}"
        )
        raise ValueError(f"env.game = {name!r} does not start for one player here: {why}") from error
    if not isinstance(game.state, textarena.SinglePlayerState):
        raise ValueError(f"env.game = {name!r} is a game for more than one player")
    return game


def _messages(game: Any) -> list[tuple[str, str]]:
    """(kind, text) of what the game has said since it was asked last, without the player's own words."""
    _, found = game.get_observation()
    return [(kind.name, plain(text)) for _, text, kind in found if kind.name != "PLAYER_ACTION"]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What it prints, and what it says of word lists that it cannot download, goes nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


class TextArena(World):
    """TextArena's games for one player, by id."""

    name = "textarena"
    options = Options
    packages = MappingProxyType({"textarena": "textarena"})
    success = "the game ends with a reward of at least env.success_reward"
    turns = "the game's own limit, which counts as truncated"

    def board(self, options: Options, split: str | None) -> Board:
        return Board(options)

    def data(self, options: Options, path: Path | None) -> Iterator[str]:
        """The games that start for one player on this machine; some want word lists of nltk, or a key."""
        self.check_installed(options)
        import textarena

        for name in sorted(textarena.envs.registration.ENV_REGISTRY):
            if name.endswith("-raw"):
                with contextlib.suppress(ValueError):
                    start(name, 0)
                    yield name.removesuffix("-raw")

    def summary(self, options: Options) -> str:
        return f"TextArena's {options.game}"


ENTRY = TextArena()
