"""Where a run is in its curriculum: a function of what its iterations have won, kept in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lamer_fast.config.curriculum import WINDOW, Stage


@dataclass
class Curriculum:
    """`stage` counts those that are over: the one after the last is the recipe's own boards."""

    stages: Sequence[Stage]
    stage: int = 0
    recent: list[float] = field(default_factory=list)  # success of the stage's last iterations
    played: int | None = None  # the stage whose boards there are; None: not asked for yet

    @property
    def now(self) -> Stage | None:
        """None: the recipe's own boards."""
        return self.stages[self.stage] if self.stage < len(self.stages) else None

    def __str__(self) -> str:
        number = f"stage {self.stage + 1} of {len(self.stages) + 1}"
        return f"{number}, the recipe's own boards" if self.now is None else f"{number}, {self.now}"

    def note(self, done: int, success: float) -> bool:
        """Whether another stage begins.

        Args:
            done: iterations of the run that are over.
            success: share of trials that the last of them won within K episodes.
        """
        before, now = self.stage, self.now
        self.recent = [*self.recent, success][-WINDOW:]
        if now is not None and now.success is not None and len(self.recent) == WINDOW:
            self.stage += sum(self.recent) / WINDOW >= now.success
        while (now := self.now) is not None and now.until is not None and done >= now.until:
            self.stage += 1
        if self.stage != before:
            self.recent = []
        return self.stage != before

    def saved(self) -> dict[str, Any]:
        return {"stage": self.stage, "recent": self.recent}

    def check(self, saved: Any) -> None:
        """Raises ValueError where it is not what `saved` gave for these stages."""
        stage, recent = (saved.get(key) for key in ("stage", "recent")) if isinstance(saved, dict) else (0, 0)
        numbers = isinstance(recent, list) and all(isinstance(x, float) for x in recent)
        if type(stage) is not int or not 0 <= stage <= len(self.stages) or not numbers:
            raise ValueError(
                f"it has curriculum = {saved!r}, must hold a stage of 0 to {len(self.stages)} and its success"
            )

    def load(self, saved: Mapping[str, Any]) -> None:
        self.stage, self.recent = saved["stage"], list(saved["recent"])
