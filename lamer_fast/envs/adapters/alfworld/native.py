"""ALFWorld's boards in C++: many of them, each with a game of its own, as the package plays it.

What a board says, what can be done on it and when it is solved is equal to the package, text for text; a game
for which that cannot be promised is refused. `envs compare` tries it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lamer_fast import _C
from lamer_fast.envs.adapters.alfworld.board import split_intro
from lamer_fast.envs.adapters.alfworld.compiler.game import cache_folder, compile_game, tables
from lamer_fast.envs.adapters.alfworld.compiler.pddl import GameError
from lamer_fast.envs.adapters.alfworld.games import games, task_id
from lamer_fast.envs.adapters.alfworld.prompts import PROMPTS
from lamer_fast.envs.adapters.world import SUCCESS_REWARD, command
from lamer_fast.envs.contract import BoardsLost
from lamer_fast.envs.protocol import TurnOut
from lamer_fast.strict_json import json_text

GAMES_KEPT = 512  # in memory, of all environments together; one of a full-sized room takes about 1 MB
HELP = "<action>help</action>"
Boards = NDArray[np.int64]


@dataclass(frozen=True)
class Playable:
    """A game that boards can play."""

    tables: _C.AlfworldGame
    intro: str
    """What is said at the start, without the task."""
    task: str
    """The sentence that says what to do."""
    id: int


@lru_cache(GAMES_KEPT)
def playable(data: str | None, name: str) -> Playable:
    """A game of the source that `env.data` names.

    Raises:
        ValueError: the game cannot be read, or not be played exactly; the message names it.
    """
    content = games(data).content(name)
    try:
        try:
            loaded = _C.AlfworldGame(tables(content, cache_folder()))
        except GameError:
            raise
        except ValueError:  # what was kept on disk is broken
            loaded = _C.AlfworldGame(compile_game(content))
    except GameError as error:
        raise ValueError(
            f"game {name} cannot be played natively: {error}; env.engine = 'package' may play it"
        ) from None
    return Playable(loaded, *split_intro(loaded.intro), task_id(content))


class NativeAlfworld:
    """Implements `TextBatchEnv`. The board of seed s plays the game s modulo the number of its split's games.

    Args:
        data: what `env.data` names.
        names: of the games of the split.
        prompt: which text of PROMPTS.
    """

    def __init__(self, data: str | None, names: Sequence[str], num_envs: int, prompt: str) -> None:
        self.num_envs, self.data, self.names, self.prompt = num_envs, data, names, prompt
        self.batch = _C.AlfworldBatch(num_envs, num_threads=len(os.sched_getaffinity(0)))
        self.games: list[Playable | None] = [None] * num_envs
        self.played = [""] * num_envs  # names of the games
        self.errors = dict.fromkeys(range(num_envs), "the board was never reset")

    def reset(self, seeds: NDArray[np.uint64], env_idx: Boards | None = None) -> None:
        boards = np.arange(self.num_envs) if env_idx is None else env_idx
        found: list[_C.AlfworldGame] = []
        started: list[int] = []
        for board, seed in zip(boards.tolist(), seeds.tolist(), strict=True):
            name = self.names[seed % len(self.names)]
            try:
                game = playable(self.data, name)
            except ValueError as error:
                self.errors[board] = f"reset(): {error}"
                continue
            self._play(board, name, game)
            found.append(game.tables)
            started.append(board)
        self.batch.reset(found, np.array(started, np.int64))

    def _play(self, board: int, name: str, game: Playable) -> None:
        self.games[board], self.played[board] = game, name
        self.errors.pop(board, None)

    def restart(self, env_idx: Boards) -> None:
        self.batch.restart(env_idx)

    def step(self, replies: Sequence[str], env_idx: Boards) -> TurnOut:
        commands = [((command(reply) or "").lower() or None) for reply in replies]
        boards = env_idx.tolist()
        if self.errors:
            commands = [None if b in self.errors else c for b, c in zip(boards, commands, strict=True)]
        done, success, won, unclear = self.batch.step(commands, env_idx)
        for i in np.flatnonzero(unclear).tolist():
            self.errors[boards[i]] = (
                f"the command {commands[i]!r} may mean two things in game {self.played[boards[i]]}: "
                "env.engine = 'package' plays it"
            )
        valid = np.array([c is not None for c in commands], bool)
        out = TurnOut(
            won * np.float32(SUCCESS_REWARD),
            done,
            np.zeros(len(boards), bool),
            success,
            valid,
            [None] * len(boards),
        )
        if not self.errors:
            return out
        errors = [self.errors.get(board) for board in boards]
        lost = np.array([error is not None for error in errors], bool)
        return TurnOut(
            np.where(lost, np.float32(0), out.rewards),
            done | lost,
            out.truncated,
            success & ~lost,
            valid & ~lost,
            errors,
        )

    def _checked(self, env_idx: Boards) -> list[Playable]:
        """The games of boards that can be asked."""
        boards = env_idx.tolist()
        if self.errors and (lost := {b: self.errors[b] for b in boards if b in self.errors}):
            raise BoardsLost(lost)
        return [game for board in boards if (game := self.games[board]) is not None]

    def observe(self, env_idx: Boards) -> list[str]:
        played = self._checked(env_idx)
        return [
            game.intro if text == game.tables.intro else text.strip()
            for game, text in zip(played, self.batch.texts(env_idx), strict=True)
        ]

    def task_prompt(self) -> str:
        return PROMPTS[self.prompt]

    def task_texts(self, env_idx: Boards) -> list[str]:
        return [game.task for game in self._checked(env_idx)]

    def anchors(self, env_idx: Boards) -> NDArray[np.int64]:
        self._checked(env_idx)
        return self.batch.anchors(env_idx)

    def tasks(self, env_idx: Boards) -> NDArray[np.uint64]:
        return np.array([game.id for game in self._checked(env_idx)], np.uint64)

    def legal_actions(self, env_idx: Boards) -> list[list[str]]:
        self._checked(env_idx)
        return [[reply for reply in menu if reply != HELP] for menu in self.batch.replies(env_idx)]

    def snapshot(self, env_idx: Boards) -> bytes:
        self._checked(env_idx)
        names = json_text([self.played[board] for board in env_idx.tolist()])
        return names.encode() + b"\n" + self.batch.snapshot(env_idx)

    def restore(self, data: bytes, env_idx: Boards) -> None:
        head, _, facts = data.partition(b"\n")
        try:
            names = json.loads(head)
            known = isinstance(names, list) and len(names) == len(env_idx) and set(names) <= set(self.names)
        except (ValueError, TypeError):
            known = False
        if not known:
            raise ValueError(f"the snapshot is not one of {len(env_idx)} boards of these games")
        found = [playable(self.data, name) for name in names]
        self.batch.restore(facts, [game.tables for game in found], env_idx)
        for board, name, game in zip(env_idx.tolist(), names, found, strict=True):
            self._play(board, name, game)
