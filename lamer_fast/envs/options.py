"""EnvOptions: what `env.*` may say of any environment; each has a dataclass of its own that adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lamer_fast.fields import Range


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


@dataclass(frozen=True)
class PoolOptions(EnvOptions):
    """What `env.*` may say of an environment of single boards, which play in worker processes."""

    workers: Annotated[int, Range(1, 1024)] | None = None
    """Processes that the boards share; none given: as many as there are cores."""
    timeout_s: Annotated[float, Range(0.01, 86_400)] = 60.0
    """A call of a board that takes longer ends its worker and costs its trial; other boards are rebuilt."""
    wait_for_all: bool = False
    """Wait for slow boards before others are sampled: a run on a CPU then repeats bit for bit."""
