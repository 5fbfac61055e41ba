"""A game (the content of a `game.tw-pddl`) as tables for the stepper, kept on disk by a digest of it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamer_fast.envs.adapters.alfworld.compiler.binary import VERSION, encode
from lamer_fast.envs.adapters.alfworld.compiler.grammar import Name, Text, read_grammar
from lamer_fast.envs.adapters.alfworld.compiler.ground import ground
from lamer_fast.envs.adapters.alfworld.compiler.pddl import GameError, read_task
from lamer_fast.envs.adapters.alfworld.compiler.texts import Texts, static_text
from lamer_fast.envs.adapters.alfworld.names import short_names

KEYS = ("pddl_domain", "pddl_problem", "grammar")
NOTHING = "Nothing happens."


def cache_folder() -> Path:
    """Where compiled games are kept: below $XDG_CACHE_HOME, or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "lamer-fast" / "alfworld"


def digest_of(content: Mapping[str, Any]) -> int:
    """64 bits of what the game says, by which tables and snapshots know it."""
    said = "\0".join(content[key] for key in KEYS)
    return int.from_bytes(hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def tables(content: Mapping[str, Any], cache: Path | None) -> bytes:
    """The tables of a game; from `cache` where it has been compiled before. Compiling takes about 0.2 s.

    Raises:
        GameError: as of `compile_game`.
    """
    kept = cache / f"{digest_of(content):016x}.v{VERSION}" if cache else None
    if kept and kept.exists():
        return kept.read_bytes()
    made = compile_game(content)
    if kept:
        _keep(kept, made)
    return made


def _keep(path: Path, made: bytes) -> None:
    """Whole or not at all, since other processes may read it; not where nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(made)
        os.replace(name, path)
    except OSError:
        return


def compile_game(content: Mapping[str, Any]) -> bytes:
    """Args:
        content: with the texts `pddl_domain`, `pddl_problem` and `grammar`.

    Raises:
        GameError: the game cannot be read, or not be played exactly as TextWorld plays it.
    """
    task = read_task(content["pddl_domain"], content["pddl_problem"])
    grounded = ground(task)
    grammar = read_grammar(content["grammar"])
    names = short_names(task.mentioned)
    texts = Texts(grounded, grammar, names)
    spoken = []
    for op in grounded.operators:
        name = op.action.name
        if name not in grammar.commands:
            raise GameError(f"the game's grammar has no command for the action {name!r}")
        if unknown := [value for value in op.arguments if value not in names]:
            raise GameError(f"{name} is about {unknown[0]!r}, which the initial state does not mention")
        parameters = [(variable.strip("?"), kind) for variable, kind in op.action.parameters]
        mapping = dict(zip(parameters, op.arguments, strict=True))
        command = static_text(texts.program(grammar.commands[name].template, mapping))
        if command is None or "{" in command or "}" in command:
            raise GameError(f"the command of {name} depends on the state, which is not supported")
        spoken.append((op, command, texts.program(grammar.commands[name].feedback, mapping)))
    intro, nothing = texts.program((Name("intro"),), {}), texts.program((Text(NOTHING),), {})
    return encode(grounded, spoken, intro, nothing, digest_of(content))
