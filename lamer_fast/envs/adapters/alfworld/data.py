"""What a downloaded folder holds: games by split and type, and which are torn off or of another version."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from lamer_fast.envs.adapters.alfworld.games import (
    FOLDERS,
    GAME,
    HOW,
    MOVE,
    OLD,
    PANELS,
    folders_in,
    game_files,
    order,
    read_game,
    task_id,
    word_of,
)
from lamer_fast.envs.adapters.alfworld.generate import shipped
from lamer_fast.envs.adapters.alfworld.tasks import WORDS
from lamer_fast.envs.panel import Panel

PUBLISHED = {"train": 3553, "valid_seen": 140, "valid_unseen": 134}
"""Games of the six types that ALFWorld's paper counts."""
MOST_NAMED = 8
SENTENCE = re.compile(r"(Your task is to: )[^\"]*")
DECLARED = re.compile(r"^\s*(\S+) - (?:object|receptacle|location)\s*$", re.M)


@dataclass
class Found:
    """What is in one folder."""

    tasks: dict[str, int] = field(default_factory=dict)  # name -> id, in order
    versions: dict[str, str] = field(default_factory=dict)  # name -> version
    broken: list[str] = field(default_factory=list)
    unsolvable: int = 0
    others: int = 0  # trials of other types, or without a game


def check_folder(root: Path) -> Iterator[str]:
    """Lines of what is there; a ValueError at the end where games are broken, with their names."""
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}; {HOW}")
    if not any((root / folder).is_dir() for folder in FOLDERS):
        inner = (
            f"; {root}/json_2.1.1 is another folder, have you meant that?" * (root / "json_2.1.1").is_dir()
        )
        raise ValueError(f"{root} has none of the folders {', '.join(FOLDERS)}{inner}; {HOW}")
    yield f"games in {root}"
    found = {}
    for folder in FOLDERS:
        found[folder] = look(root, folder)
        yield from lines(folder, found[folder])
    for panel, (folders, words) in PANELS.items():
        tasks = {
            name: i for folder in folders for name, i in found[folder].tasks.items() if word_of(name) in words
        }
        ids = [tasks[name] for name in order(list(tasks))]
        yield f"panel {panel}: {len(ids)} games, digest {digest(ids)}"
    yield from version_lines({name: v for f in found.values() for name, v in f.versions.items()})
    broken = [line for f in found.values() for line in f.broken]
    if broken:
        shown = "; ".join(broken[:MOST_NAMED]) + "; ..." * (len(broken) > MOST_NAMED)
        raise ValueError(
            f"{len(broken)} of the games cannot be played: {shown}. Take them away, or download again"
        )


def look(root: Path, folder: str) -> Found:
    """Reads every game of a folder."""
    found = Found()
    names = order(game_files(root, folder))
    trials = sum(len(folders_in(root / folder / parent)) for parent in folders_in(root / folder))
    found.others = trials - len(names)
    for name in names:
        try:
            content = read_game(root / name / GAME)
        except ValueError as error:
            found.broken.append(str(error).removeprefix(f"{root}/"))
            continue
        twice = [x for x, n in Counter(DECLARED.findall(content["pddl_problem"])).items() if n > 1]
        if content.get("solvable") is not True:
            found.unsolvable += 1
        elif MOVE not in content["grammar"]:
            found.broken.append(f"{name}/{GAME} {OLD}")
        elif twice:
            found.broken.append(f"{name}/{GAME} declares {twice[0]} twice")
        else:
            found.tasks[name] = task_id(content)
            found.versions[name] = version_of(content)
    return found


def lines(folder: str, found: Found) -> Iterator[str]:
    words = Counter(map(word_of, found.tasks))
    by_type = ", ".join(f"{word} {words[word]}" for word in WORDS)
    count, published = len(found.tasks), PUBLISHED[folder]
    said = "as published" if count == published else f"{published:,} are published"
    yield f"{folder}: {count:,} games ({said}): {by_type}; digest {digest(list(found.tasks.values()))}"
    if found.unsolvable or found.others:
        yield (
            f"{folder}: left out are {found.unsolvable:,} games that are not marked as solvable, and "
            f"{found.others:,} trials of other types or without a game"
        )


def digest(tasks: list[int]) -> str:
    return Panel("alfworld", "", np.arange(len(tasks), dtype=np.uint64), np.array(tasks, np.uint64)).digest


def version_of(content: dict[str, Any]) -> str:
    """A hash of a game's rules and words, whatever the sentence of its task is."""
    words = SENTENCE.sub(r"\1", content["grammar"])
    return blake2b(f"{content['pddl_domain']}\0{words}".encode(), digest_size=8).hexdigest()


def known_version() -> str:
    """That of the files beside this one, which are alfworld 0.4.2's."""
    return version_of({"pddl_domain": shipped("alfred.pddl"), "grammar": shipped("alfred.twl2")})


def version_lines(versions: dict[str, str]) -> Iterator[str]:
    """Which rules and words the games have; a few that differ from the rest are named."""
    for version, count in Counter(versions.values()).most_common():
        which = "those of alfworld 0.4.2" if version == known_version() else f"of another version ({version})"
        names = [name for name, v in versions.items() if v == version]
        named = f": {', '.join(names)}" if count < len(versions) and count <= MOST_NAMED else ""
        yield f"rules and words {which}: {count:,} games{named}"
