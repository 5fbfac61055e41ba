"""World: what the environments of other packages have in common. Their boards play in worker processes.

A subclass names its package and makes one board, a `TextEnv`; the processes are those of `pool.py`, so that
a package that prints, shares a generator, hangs or ends its process harms one trial. Nothing here or in a
module of a world imports the package before a board is made.
"""

from __future__ import annotations

import hashlib
import random
import re
from abc import abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np

from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.entry import Entry
from lamer_fast.envs.options import PoolOptions
from lamer_fast.envs.pool import AsyncEnvPool, EnvPool
from lamer_fast.envs.protocol import TextBatchEnv, TextEnv
from lamer_fast.envs.replies import action
from lamer_fast.envs.splits import SplitEnv

MAX_ACTION_CHARS = 200
MAX_ITEMS = 10_000  # of a collection in a game's state; larger ones are dictionaries of words, not state
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
SUCCESS_REWARD = 10.0


@dataclass(frozen=True)
class WorldOptions(PoolOptions):
    rewards: Literal["own", "success"] = "own"
    """`own`: those of the world; `success`: 10 for a success, 0 for all else."""


class World(Entry):
    """An environment whose boards another package plays.

    Attributes:
        packages: modules that must be there, and the extra of `lamer-fast[EXTRA]` that installs each.
        success, turns: in a sentence, what counts as a success and what ends an episode otherwise.
    """

    packages: ClassVar[Mapping[str, str]]
    success: ClassVar[str]
    turns: ClassVar[str]

    @abstractmethod
    def board(self, options: Any, split: str | None) -> TextEnv:
        """One board, in a worker process."""

    def make(self, options: Any, num_envs: int, split: str | None = None) -> TextBatchEnv:
        env = self.pool(options, num_envs, None)
        made: TextBatchEnv = env if split is None else SplitEnv(env, split)
        return made

    def pool(self, options: Any, num_envs: int, split: str | None) -> EnvPool:
        """Boards in worker processes; `split` is theirs to keep."""
        self.check_installed(options)
        return (EnvPool if options.wait_for_all else AsyncEnvPool)(options, num_envs, split)

    def needed(self, options: Any) -> Mapping[str, str]:
        """Those of `packages` that these options need."""
        return self.packages

    def check_installed(self, options: Any) -> None:
        """Raises EnvError where a package is missing."""
        for package, extra in self.needed(options).items():
            if find_spec(package) is None:
                raise EnvError(
                    f"env.name = {self.name!r} needs the package {package}, which is not installed: "
                    f"pip install 'lamer-fast[{extra}]'"
                )


def command(reply: str) -> str | None:
    """What stands between the action tags, as one line for a package's parser.

    None without tags, and of a text that is empty, over MAX_ACTION_CHARS long, or has characters that cannot
    be printed: a NUL or a lone surrogate ends some interpreters of games.
    """
    lines = lines_of(reply, MAX_ACTION_CHARS)
    return None if lines is None else " ".join(" ".join(lines).split())


def lines_of(reply: str, max_chars: int) -> list[str] | None:
    """The same, for a parser that reads several lines; None of what is longer than `max_chars`."""
    content = action(reply)
    if content is None or len(content) > 2 * max_chars:
        return None
    lines = content.strip().replace("\t", " ").splitlines()
    is_clean = all(line.isprintable() for line in lines) and 0 < sum(map(len, lines)) <= max_chars
    return [line.strip() for line in lines] if is_clean else None


def plain(text: str) -> str:
    """A package's text without colours and control characters, without blank lines around it."""
    lines = COLOUR.sub("", text).replace("\t", "    ").splitlines()
    return "\n".join("".join(c for c in line if c.isprintable()).rstrip() for line in lines).strip("\n")


def seed_generators(seed: int) -> None:
    """For a package that draws from the global generators when it starts a game: each start alike."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def digest(*values: Any) -> int:
    """Id of a task: a hash of values, the same in every process, whatever the order of sets."""
    return int.from_bytes(hashlib.blake2b(_canonical(values).encode(), digest_size=8).digest(), "little")


def _canonical(value: Any, depth: int = 0) -> str:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    if depth == 8 or (hasattr(value, "__len__") and len(value) > MAX_ITEMS):
        return type(value).__name__
    if isinstance(value, Mapping):
        inner = sorted(f"{_canonical(k, depth + 1)}:{_canonical(v, depth + 1)}" for k, v in value.items())
    elif isinstance(value, Set):
        inner = sorted(_canonical(v, depth + 1) for v in value)
    elif isinstance(value, list | tuple):
        inner = [_canonical(v, depth + 1) for v in value]
    elif hasattr(value, "__dict__") and not callable(value):
        return type(value).__name__ + _canonical(vars(value), depth + 1)
    else:
        return type(value).__name__
    return f"{type(value).__name__}[{','.join(inner)}]"
