"""TextWorld: games from files that were made ahead (`tw-make`), each in a worker process.

    env.name = "textworld"
    env.games = "games"

The interpreter of .z8 files ends its process at a NUL, asks yes or no at "quit" and writes files at "save":
commands are clean lines, those of the interpreter itself are refused, and a worker has a folder of its own.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.world import SUCCESS_REWARD, World, WorldOptions, command, plain
from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.protocol import TextBatchEnv, Turn
from lamer_fast.fields import Range

MAKE = "tw-make tw-simple --rewards dense --goal detailed --seed 1 --output games/1.z8"
SIMPLE = re.compile(r"[A-Za-z0-9' -]+")  # no full stop, which begins another command
# with these Inform's interpreter asks back, writes files, takes back, or repeats what came before
OF_THE_INTERPRETER = frozenset(
    re.findall(
        r"\w+",
        """again brief full fullscore g long notify nouns objects oops places pronouns q quit recording replay
        restart restore save score script short superbrief transcript undo unscript verbose verify version""",
    )
)
PROMPT = "Play the text adventure: one command a turn, in action tags, as in <action>look</action>."
ROOM = re.compile(r"^-= .* =-", re.MULTILINE)
STATUS = re.compile(r"^> +-= .* =-.*$", re.MULTILINE)


@dataclass(frozen=True)
class Options(WorldOptions):
    games: str = "games"
    """Folder of .z8 files, each beside its .json, or one such folder each for train, valid and test."""
    commands: Literal["admissible", "any"] = "admissible"
    """Commands that reach the game: those that it offers, or any; all others are invalid replies."""
    max_steps: Annotated[int, Range(1)] = 50
    """Maximum number of commands in an episode."""


@cache
def games(folder: str) -> dict[str, list[tuple[int, str]]]:
    """Split -> (task, path) of its games, by task: a function of the files' contents, not of their names.

    Without subfolders a tenth of the games, at least one, is `valid`, as many are `test`.

    Raises:
        ValueError: there are none, or one is broken; says which and what would be right.
    """
    root = Path(folder).absolute()
    if not root.is_dir():
        raise ValueError(f"env.games = {folder!r}: no such folder; a game is made by: {MAKE}")
    found = {split: _read(root / split) for split in SPLITS if (root / split).is_dir()}
    if not found:
        every = _read(root)
        held_out = max(1, len(every) // 10)
        if len(every) < 3:
            raise ValueError(
                f"env.games = {folder!r}: {len(every)} games, expected at least 3 for three splits"
            )
        found = {
            "valid": every[:held_out],
            "test": every[held_out : 2 * held_out],
            "train": every[2 * held_out :],
        }
    tasks = [{task for task, _ in found.get(split, [])} for split in SPLITS]
    for i, split in enumerate(SPLITS):
        for j in range(i):
            if tasks[i] & tasks[j]:
                path = next(path for task, path in found[split] if task in tasks[j])
                raise ValueError(f"env.games = {folder!r}: {path} of {split} is in {SPLITS[j]} too")
    return found


def _read(folder: Path) -> list[tuple[int, str]]:
    by_task = {}
    for path in sorted(folder.glob("*.z8")):
        by_task[check_game(path)] = str(path)
    if not by_task:
        raise ValueError(f"env.games: no .z8 file in {folder}; one is made by: {MAKE}")
    return sorted(by_task.items())


def check_game(path: Path) -> int:
    """The task of a game file. The interpreter would end the process over a broken one.

    Raises:
        ValueError: it is cut off, damaged or no .z8 file, or the .json beside it is missing or another.
    """
    story, made = path.read_bytes(), path.with_suffix(".json")
    if len(story) < 64 or story[0] != 8:
        raise ValueError(f"{path} is no game of version 8: it begins with {story[:1].hex() or 'nothing'}")
    length, checksum = 8 * int.from_bytes(story[26:28], "big"), int.from_bytes(story[28:30], "big")
    if len(story) < length:
        raise ValueError(f"{path} is cut off: {len(story)} bytes, its header says {length}")
    if sum(story[64:length]) % 65536 != checksum:
        raise ValueError(f"{path} is damaged: checksum {sum(story[64:length]) % 65536}, not {checksum}")
    try:
        version = json.loads(made.read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{made} must stand beside the game and be what was made with it: {error!r}"
        ) from None
    if version != 1:
        raise ValueError(f"{made} is of version {version}, expected 1")
    return int.from_bytes(blake2b(story[:length], digest_size=8).digest(), "little")


class Board:
    """One board, which plays the files of a split."""

    def __init__(self, options: Options, split: str | None) -> None:
        import textworld

        self.options, self.textworld = options, textworld
        self.files = of_split(options, split)
        self.infos = textworld.EnvInfos(
            admissible_commands=True, won=True, lost=True, score=True, objective=True
        )
        self.env: Any = None
        self.text = ""
        scratch_folder()

    def reset(self, seed: int) -> None:
        self.id, path = self.files[seed % len(self.files)]
        if self.env is not None:
            self.env.close()
        self.env = self.textworld.start(path, self.infos)
        self.restart()

    def restart(self) -> None:
        self._take(self.env.reset())
        self.score, self.num_steps, self.over = float(self.state.score or 0), 0, False
        room = ROOM.search(self.text)
        self.text = self.text[room.start() :] if room else self.text  # without the package's banner

    def _take(self, state: Any) -> None:
        self.state: Any = state
        self.text = STATUS.sub("", plain(state.feedback or "")).rstrip("\n >")

    def step(self, reply: str) -> Turn:
        said = command(reply)
        if said is None or not self._may_play(said):
            return Turn(0.0, valid=False)
        state, score, done = self.env.step(said)
        self._take(state)
        self.num_steps += 1
        gained, self.score = float(score) - self.score, float(score)  # the package tells the total
        won, lost = bool(state.won), bool(state.lost)
        cut = not (won or lost or done) and self.num_steps >= self.options.max_steps
        self.over = won or lost or bool(done) or cut
        return Turn(
            SUCCESS_REWARD * won if self.options.rewards == "success" else gained, self.over, won, cut
        )

    def _may_play(self, said: str) -> bool:
        if self.options.commands == "admissible":
            return said in self.state.admissible_commands
        words = said.lower().split()
        return bool(SIMPLE.fullmatch(said)) and words[0] not in OF_THE_INTERPRETER and "then" not in words

    def observe(self) -> str:
        return self.text

    def task_prompt(self) -> str:
        return PROMPT

    def task_text(self) -> str:
        return plain(self.state.objective or "")

    def task(self) -> int:
        return self.id

    def legal_actions(self) -> list[str]:
        offered = [] if self.over else self.state.admissible_commands
        return [f"<action>{said}</action>" for said in offered if command(f"<action>{said}</action>") == said]


def of_split(options: Options, split: str | None) -> list[tuple[int, str]]:
    found = games(options.games)
    if split is not None and split not in found:
        raise ValueError(f"env.games = {options.games!r} has no folder {split}, but {', '.join(found)}")
    return found[split] if split else sorted(game for part in found.values() for game in part)


@cache
def scratch_folder() -> str:
    """A folder of this process, which becomes the current one: some commands write files."""
    folder = tempfile.mkdtemp(prefix="lamer-fast-textworld-")
    os.chdir(folder)
    return folder


class TextWorld(World):
    """TextWorld's games from files that were made ahead, by `tw-make`."""

    name = "textworld"
    options = Options
    packages = MappingProxyType({"textworld": "textworld"})
    success = "the game says that it is won"
    turns = "after env.max_steps commands, which counts as truncated"

    def board(self, options: Options, split: str | None) -> Board:
        return Board(options, split)

    def make(self, options: Options, num_envs: int, split: str | None = None) -> TextBatchEnv:
        of_split(options, split)
        return self.pool(options, num_envs, split)

    def num_tasks(self, options: Options, split: str | None) -> int:
        return len(of_split(options, split))

    def seeds(self, options: Options, split: str | None, count: int | None) -> NDArray[np.uint64]:
        return np.arange(self.num_tasks(options, split), dtype=np.uint64)[:count]

    def data(self, options: Options, path: Path | None) -> Iterator[str]:
        for split, found in games(str(path) if path else options.games).items():
            whole = blake2b(b"".join(task.to_bytes(8, "little") for task, _ in found), digest_size=8)
            yield f"{split}: {len(found)} games, digest {whole.hexdigest()}"

    def summary(self, options: Options) -> str:
        return f"TextWorld, games of {Path(options.games).name}"


ENTRY = TextWorld()
