"""What the agent of a table sees: the board before it, and what it keeps of earlier episodes.

Its memory is a set of texts. After a lost episode a mind may offer notes to choose from, which is then a
REFLECT turn; otherwise it remembers by itself what it saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Memory = frozenset[str]
ONE = np.zeros(1, np.int64)
NOTHING: Memory = frozenset()
PLAY_TOKENS = 2  # of a tiny model's reply: the action is a word, and an end


class Mind(Protocol):
    def actions(self, env: Any, view: str) -> Sequence[str]:
        """What can be done; a function of what is seen alone."""
        ...

    def saw(self, memory: Memory, view: str) -> Memory:
        """What is remembered after a turn that led to `view`."""
        ...

    def notes(self, memory: Memory, view: str) -> Sequence[Memory]:
        """What can be written after an episode that was lost with `view`: the memory that each note leaves;
        none, and there is no reflection."""
        ...


class Notes:
    """Minesweeper: a later episode knows what was written, and nothing else. A note adds the mine that was
    hit, or nothing, or a cell that stayed closed."""

    def actions(self, env: Any, view: str) -> Sequence[str]:
        legal: list[str] = env.legal_actions(ONE)[0]
        return legal

    def saw(self, memory: Memory, view: str) -> Memory:
        return memory

    def notes(self, memory: Memory, view: str) -> Sequence[Memory]:
        cells = view.replace("\n", "")
        hit = cells.find("*")
        closed = [i for i, cell in enumerate(cells) if cell == "?" and str(i) not in memory]
        named = [str(i) for i in (hit, *closed[:1]) if i >= 0]
        return [memory, *(memory | {name} for name in named)]


class Facts:
    """Sokoban under hidden controls: which word made which move is remembered over the whole trial."""

    words = tuple(f"<action>{word}</action>" for word in ("up", "down", "left", "right"))

    def actions(self, env: Any, view: str) -> Sequence[str]:
        return self.words

    def saw(self, memory: Memory, view: str) -> Memory:
        return memory | {line for line in view.splitlines() if ": " in line and "nothing" not in line}

    def notes(self, memory: Memory, view: str) -> Sequence[Memory]:
        return []


MINDS: dict[str, Mind] = {"notes": Notes(), "facts": Facts()}


def note_tokens(memory: Memory) -> int:
    return PLAY_TOKENS + 2 * len(memory)
