"""Where games come from: a folder that was downloaded, or our generator. A split is a list of their names.

The order of a list is a function of the names alone: neither the file system nor the seed changes it. It is
that of hashes, so that the first n of a list are of all its types.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from lamer_fast.envs.adapters.alfworld.generate import GAMES, game
from lamer_fast.envs.adapters.alfworld.household import Size
from lamer_fast.envs.adapters.alfworld.tasks import BY_NAME, WORDS

FOLDERS = ("train", "valid_seen", "valid_unseen")
SPLITS = {"train": ("train",), "valid": ("valid_seen",), "test": ("valid_unseen",), None: FOLDERS}
FIRST4, LAST2 = ("pick", "look", "clean", "heat"), ("cool", "pick2")
PANELS = {
    "first4/seen": (("valid_seen",), FIRST4),
    "first4/unseen": (("valid_unseen",), FIRST4),
    "cool+pick2": (("valid_seen", "valid_unseen"), LAST2),
}
"""The paper's: in distribution in rooms that were seen in training, and not; out of distribution by type."""
GAME, MADE = "game.tw-pddl", "made:"
OLD = "is of a version before 0.4, which says `put` for `move`"
KEYS = ("pddl_domain", "grammar", "pddl_problem")
MOVE = "move {o} to {r}"  # what the commands of 0.4 and later have; before, it was `put {o} in/on {r}`
SOLVABLE = re.compile(rb'"solvable"\s*:\s*(true|false|null)')
HOW = (
    "the games of ALFWorld are a download: `pip install alfworld; alfworld-download` puts them into "
    "~/.cache/alfworld/json_2.1.1 (from https://github.com/alfworld/alfworld/releases, 0.2.2 and 0.4.0); "
    "env.data = 'made:full' or 'made:small' plays games of our own making"
)


class Games(Protocol):
    def names(self, folder: str) -> Sequence[str]:
        """Those of FOLDERS' `folder` that can be played, in order."""
        ...

    def content(self, name: str) -> dict[str, Any]:
        """Of its `game.tw-pddl`."""
        ...


def order(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: blake2b(name.encode(), digest_size=16).digest())


def word_of(name: str) -> str:
    """Type of the game of a name: `pick`, ..."""
    return BY_NAME[name.split("/")[1].partition("-")[0]].word


def selection(split: str | None, panels: str, task_types: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(folders, words of types) of a split, or of the panel that stands for `valid` and `test`."""
    if panels in PANELS and split in ("valid", "test"):
        return PANELS[panels]
    return SPLITS[split], types_of(task_types)


def types_of(task_types: str) -> tuple[str, ...]:
    """The words of `env.task_types`; ValueError where one is none."""
    given = [word.strip() for word in task_types.split(",")]
    if not set(given) <= set(WORDS) or len(set(given)) != len(given):
        raise ValueError(
            f"env.task_types = {task_types!r}, must be one or more of {','.join(WORDS)}, each once, by commas"
        )
    return tuple(given)


@cache
def listed(data: str | None, split: str | None, panels: str, task_types: str) -> tuple[str, ...]:
    """The names of a split's games, in order; read once a process.

    Raises:
        ValueError: the folder is not there or has no such game; the message says how to get it.
    """
    folders, words = selection(split, panels, task_types)
    source = games(data)
    names = order([name for folder in folders for name in source.names(folder) if word_of(name) in words])
    if not names:
        where = " or ".join(folders)
        raise ValueError(f"{data or folder_of(data)} has no game of {', '.join(words)} in {where}; {HOW}")
    return tuple(names)


@cache
def games(data: str | None) -> Games:
    """What `env.data` names."""
    if data and data.startswith(MADE):
        return MadeGames(data.removeprefix(MADE))  # type: ignore[arg-type]
    return FolderGames(folder_of(data))


def folder_of(data: str | None) -> Path:
    """The folder of a download; none given: where the package puts it."""
    if data:
        return Path(data).expanduser().absolute()
    root = os.environ.get("ALFWORLD_DATA") or "~/.cache/alfworld"
    return Path(root).expanduser().absolute() / "json_2.1.1"


class MadeGames:
    """Games of `generate.py`, in rooms of one size."""

    def __init__(self, size: Size) -> None:
        if size not in ("small", "full"):
            raise ValueError(f"env.data = {MADE + size!r}, must be made:small or made:full")
        self.size = size

    def names(self, folder: str) -> list[str]:
        return [f"{folder}/{task}/{index:05d}" for task in BY_NAME for index in range(GAMES[folder])]

    def content(self, name: str) -> dict[str, Any]:
        folder, task, index = name.split("/")
        return game(self.size, folder, BY_NAME[task], int(index)).content


class FolderGames:
    """Games of a folder that is laid out as the download is."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ValueError(f"env.data: there is no folder {root}; {HOW}")
        self.root = root
        self.names = cache(self._names)

    def _names(self, folder: str) -> list[str]:
        return [name for name in game_files(self.root, folder) if is_solvable(self.root / name / GAME)]

    def content(self, name: str) -> dict[str, Any]:
        return read_game(self.root / name / GAME)


def game_files(root: Path, folder: str) -> list[str]:
    """Names of the trials of a folder that have a game, of the six types.

    Movable vessels and sliced things have trials as well, which the package does not play either.
    """
    names = []
    for parent in folders_in(root / folder):
        if parent.partition("-")[0] in BY_NAME and "Sliced" not in parent and "movable" not in parent:
            for trial in folders_in(root / folder / parent):
                if (root / folder / parent / trial / GAME).is_file():
                    names.append(f"{folder}/{parent}/{trial}")
    return names


def folders_in(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted; none where it is missing."""
    if not path.is_dir():
        return []
    with os.scandir(path) as found:
        return sorted(entry.name for entry in found if entry.is_dir())


def is_solvable(path: Path) -> bool:
    """As the file says.

    Raises:
        ValueError: it is torn off, or of an old version. Neither may shrink a split, or change what a model
            is to say, in silence.
    """
    data = path.read_bytes()
    if SOLVABLE.findall(data)[-1:] != [b"true"] and data.rstrip().endswith(b"}"):
        return False
    wrong = "is torn off" if not data.rstrip().endswith(b"}") else "" if MOVE.encode() in data else OLD
    if wrong:
        raise ValueError(f"{path} {wrong}: `lamer-fast envs data alfworld FOLDER` names all such; {HOW}")
    return True


def read_game(path: Path) -> dict[str, Any]:
    """The content of a `game.tw-pddl`.

    Raises:
        ValueError: it is no JSON, or lacks what a game needs.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    game: dict[str, Any] = content if isinstance(content, dict) else {}
    missing = [key for key in KEYS if not isinstance(game.get(key), str)]
    if missing:
        raise ValueError(f"{path} has no text {', '.join(missing)}: it is no game of ALFWorld")
    return game


def task_id(content: dict[str, Any]) -> int:
    """A hash of a game's facts and sentence: the same wherever the file lies."""
    whole = content["pddl_problem"] + "\0" + content["grammar"]
    return int.from_bytes(blake2b(whole.encode(), digest_size=8).digest(), "little")
