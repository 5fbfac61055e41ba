"""A run that was trained as a cell asks, by whichever study: such a cell only evaluates."""

from __future__ import annotations

from pathlib import Path

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.study.spec import Cell, training_of


def run_of(cell: Cell, runs: Path) -> Path:
    """The folder of the cell's run: its own once that is there, else a finished one of the same training."""
    own = runs / cell.config.name
    if not cell.arm.train or own.exists():
        return own
    for path in sorted(runs.glob("*/config.json")):
        config = recipe.read_config(path)
        if is_finished(path.parent, config) and training_of(config) == cell.training:
            return path.parent
    return own


def is_finished(run: Path, config: Config) -> bool:
    """Whether all iterations were made and the trained model is there."""
    try:
        made = (run / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return False
    return made == config.train.iterations and (run / "model").is_dir()
