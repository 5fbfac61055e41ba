"""An environment of one's own in forty lines: docs/own-environment.md tells it step by step.

lamer-fast train examples/own_environment.toml
"""

import random
import re
from dataclasses import dataclass
from typing import Annotated

from lamer_fast.envs import Range, Turn


@dataclass(frozen=True)
class Options:
    rows: Annotated[int, Range(1, 9)] = 3
    """Rows of cells."""


class Treasure:
    """A treasure lies under one of three cells a row; an episode has as many digs as the trainer allows."""

    def __init__(self, options: Options):
        self.rows = options.rows

    def reset(self, seed):  # a function of the seed and the options alone
        self.treasure = divmod(random.Random(seed).randrange(3 * self.rows), 3)
        self.restart()

    def restart(self):  # the same treasure, for another episode
        self.dug = set()

    def step(self, reply):
        cell = re.search(r"<action>\((\d), (\d)\)</action>", reply)
        if cell is None:
            return Turn(reward=0.0, valid=False)
        self.dug.add((int(cell[1]) - 1, int(cell[2]) - 1))
        found = self.treasure in self.dug
        return Turn(reward=float(found), done=found, success=found)

    def observe(self):
        shown = lambda *cell: "?" if cell not in self.dug else "*" if cell == self.treasure else "0"  # noqa: E731
        rows = range(self.rows)
        return "\n".join(f"Row {r + 1}: {shown(r, 0)} {shown(r, 1)} {shown(r, 2)}" for r in rows)

    def task_prompt(self):
        return f"Find the treasure, {self.rows}x3.\n<action>(row, column)</action>"
