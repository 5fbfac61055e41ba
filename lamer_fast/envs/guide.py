"""Guide: what the best player would do who has seen what a person has seen, where that can be computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Guide(ABC):
    """Follows board 0 over a trial: `look` before every turn, `learn` after it, `hint` in between."""

    @abstractmethod
    def look(self) -> None: ...

    @abstractmethod
    def learn(self, reply: str) -> None:
        """What the turn has shown that `reply` made."""

    @abstractmethod
    def hint(self, turn: int, episode: int) -> tuple[str, float]:
        """(the reply, the chance that it wins the trial); `turn` of its episode and `episode` from 0."""

    @abstractmethod
    def memory(self) -> Any:
        """What has been learned, for `recall` when a turn is taken back."""

    @abstractmethod
    def recall(self, memory: Any) -> None: ...
