"""EnvOptions: what `env.*` may say of any environment; each has a dataclass of its own that adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EnvOptions:
    name: str = "minesweeper"
    """Which environment: one that `lamer-fast envs` lists, or `package.module:factory` of your own."""
    prompt: Literal["full", "compact"] = "full"
    """Length of the task description and of the reflection request."""
    show_actions: bool = False
    """List in every prompt what can be done now, where the environment knows it."""

    def validate(self) -> None:
        """Raises ValueError naming two options that contradict each other; ranges have been checked."""
