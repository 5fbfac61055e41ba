"""NoFolder: in the place of a run's folder on the ranks that write nothing."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


class NoFolder:
    """What the training loop asks of `RunFolder`."""

    checkpoints = Path("checkpoints")  # named in an error, of which rank 0 gives the whole path

    def trace(self, iteration: int) -> Path:
        return Path(f"{iteration:06d}.json.gz")

    def write_metrics(self, record: dict[str, Any]) -> None:
        pass

    def write_trials(self, iteration: int, trials: Iterable[dict[str, Any]]) -> None:
        pass

    def sync(self) -> None:
        pass
