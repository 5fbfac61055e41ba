"""Entry: what the trainer knows of an environment beside its boards. `registry.py` finds it by `env.name`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.expert import Expert
from lamer_fast.envs.guide import Guide
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.envs.splits import AT_ONCE, distinct_seeds

SPLITS = ("train", "valid", "test")


class Entry(ABC):
    """One environment with options; `options` arguments are instances of its own class of them.

    Attributes:
        name: what `env.name` calls it.
        options: its dataclass of options.
    """

    name: str
    options: type[EnvOptions]

    @property
    def doc(self) -> str:
        """One line for people who choose."""
        return (type(self).__doc__ or "").strip().partition("\n")[0]

    @abstractmethod
    def make(self, options: Any, num_envs: int, split: str | None = None) -> TextBatchEnv:
        """`num_envs` boards, not yet reset. No task of one of SPLITS is in another; None has them all."""

    def num_tasks(self, options: Any, split: str | None) -> int | None:
        """How many tasks a split has; None where they cannot be counted."""
        return None

    def seeds(self, options: Any, split: str | None, count: int | None) -> NDArray[np.uint64]:
        """The first seeds, counted from 0, whose boards are distinct tasks of the split; the same everywhere.

        Args:
            count: how many; None: one of every task there is. Where the split has fewer, all of them.

        Raises:
            ValueError: no `count`, and the tasks cannot be counted.
        """
        if count is None:
            raise ValueError(f"the tasks of {self.name} cannot be counted: say how many")
        return distinct_seeds(self.make(options, AT_ONCE, split), count)

    @abstractmethod
    def summary(self, options: Any) -> str:
        """The task in a few words, as a report names it."""

    def words(self, options: Any) -> list[str]:
        """Texts that deserve a token of their own in a vocabulary made for this environment.

        Without any, a warm start learns a vocabulary from what the environment shows and its experts reply.
        """
        return []

    def expert(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> Expert:
        """Players for warm starts, one per trial (`Expert` has the arguments).

        Raises:
            ValueError: there is no expert.
        """
        if not callable(getattr(env, "expert_replies", None)):
            raise ValueError(
                f"env.name = {self.name!r} has no expert to learn from: a batch has expert_replies(), a "
                "single board expert() (docs/own-environment.md)"
            )
        return Expert(env, noise, memory, num_trials, rng)

    def has_bound(self, options: Any) -> bool:
        """Whether something is hidden whose best explorer is known."""
        return False

    def bound(
        self, options: Any, split: str | None, seeds: NDArray[np.uint64], max_turns: int, episodes: int
    ) -> NDArray[np.float64] | None:
        """[seeds, episodes]: the greatest chance that anybody has to win within 1, 2, ... episodes of so many
        turns who does not know what is hidden; None where it is not known, or takes too long."""
        return None

    def guide(self, env: Any, max_turns: int, episodes: int) -> Guide | None:
        """Hints of the best player, for board 0 of `env`; None where there are none."""
        return None

    def explorer(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator,
        *, max_turns: int, episodes: int,
    ) -> Expert:  # fmt: skip
        """The best players as those of a warm start, in trials of so many episodes and turns.

        Raises:
            ValueError: they are not known.
        """
        raise ValueError(f"env.name = {self.name!r} knows no best explorer of what is played here")

    def data(self, options: Any, path: Path | None) -> Iterator[str]:
        """Checks the files that it plays on, builds what it makes of them once, and says what it found.

        Args:
            path: of the files; None: where the options say they are, or those that ship.

        Yields:
            lines of what is there: counts, digests.

        Raises:
            ValueError: a file is missing (what to download and where from), broken, or of another version.
        """
        raise ValueError(f"{self.name} plays without files: there is nothing to check")

    def compare(self, options: Any, path: Path | None, split: str, turns: int, seed: int) -> Iterator[str]:
        """Plays what another package plays beside it, and says how far they are equal.

        Args:
            path: of the files; None: where the options say they are.
            turns: of each random walk.

        Raises:
            ValueError: the first difference; or there is no such package.
        """
        raise ValueError(f"{self.name} is played by one engine: there is nothing to compare it with")
