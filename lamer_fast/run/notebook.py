"""The live table under the cell of a notebook, as plain text, which each front end shows by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

WIDTH, HEIGHT = 110, 40  # characters and lines of a cell's output
EVERY_S = 0.5  # between two drawings


def in_notebook() -> bool:
    """This process runs the cells of a notebook: Jupyter, Colab, VS Code."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


class NotebookTable:
    """Draws over what it drew, from the thread that calls it: `refresh` often, `start` and `stop` once."""

    def __init__(self, lines: Callable[[int, int], list[str]]) -> None:
        self._lines, self._drawn = lines, 0.0
        self._handle: Any = None

    def start(self) -> None:
        from IPython.display import display

        self._handle = display(self._content(), raw=True, display_id=True)

    def refresh(self) -> None:
        if time.monotonic() - self._drawn >= EVERY_S:
            self.draw()

    def stop(self) -> None:
        self.draw()

    def draw(self) -> None:
        self._drawn = time.monotonic()
        if self._handle is not None:
            self._handle.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        return {"text/plain": "\n".join(self._lines(WIDTH, HEIGHT))}
