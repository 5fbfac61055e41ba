"""EnvOptions: what `env.*` may say of any environment; each has a dataclass of its own that adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lamer_fast.fields import Range


@dataclass(frozen=True)
class EnvOptions:
    """Options that every environment has."""

    name: str = "minesweeper"
    """The environment: one that `lamer-fast envs` lists, or your own as `package.module:factory`."""
    prompt: Literal["full", "compact"] = "full"
    """Length of the task description and of the reflection request."""
    show_actions: bool = False
    """List the possible actions in every prompt, if the environment knows them."""

    def validate(self) -> None:
        """Raises ValueError naming two options that contradict each other; ranges have been checked."""


@dataclass(frozen=True)
class PoolOptions(EnvOptions):
    """What `env.*` may say of an environment of single boards, which play in worker processes."""

    workers: Annotated[int, Range(1, 1024)] | None = None
    """Number of processes that the boards share; by default one per core."""
    timeout_s: Annotated[float, Range(0.01, 86_400)] = 60.0
    """A call that takes longer loses the board's trial and replaces its worker; other boards are rebuilt."""
    wait_for_all: bool = False
    """Sample others only after slow boards have answered: a run on a CPU then repeats bit for bit."""
