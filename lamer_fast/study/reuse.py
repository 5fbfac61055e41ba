"""A run that was trained as a cell asks, by whichever study: such a cell only evaluates."""

from __future__ import annotations

from pathlib import Path

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.run.whose import first_difference
from lamer_fast.study.spec import Cell, difference, training_of, training_settings


def run_of(cell: Cell, runs: Path) -> Path:
    """The folder of the cell's run: its own once that is there, else a finished one of the same training."""
    own = runs / cell.config.name
    if not cell.arm.train or own.exists():
        return own
    for path in sorted(runs.glob("*/config.json")):
        try:
            config = recipe.read_config(path)
        except (OSError, ValueError):  # of a model, or damaged: nobody has named it
            continue
        if is_finished(path.parent, config) and training_of(config) == cell.training:
            return path.parent
    return own


def check_own_run(cell: Cell, runs: Path) -> None:
    """Raises ValueError where the cell's own folder has a run of other settings, or what cannot be read."""
    own = runs / cell.config.name
    if not cell.arm.train or not own.exists():
        return
    if is_finished(own, cell.config):
        trained = training_settings(recipe.read_config(own / "config.json"))
        other = difference(trained, training_settings(cell.config))
    else:
        other = first_difference(own, cell.config)
    if other:
        key, before, now = other
        raise ValueError(
            f"{own} holds a run with {key} = {before!r}, the study says {now!r}; move it away to train again"
        )


def is_finished(run: Path, config: Config) -> bool:
    """Whether all iterations were made and the trained model is there."""
    try:
        made = (run / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return False
    return made == config.train.iterations and (run / "model").is_dir()
