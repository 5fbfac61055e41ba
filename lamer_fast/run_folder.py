"""runs/NAME/: what a run leaves behind, and how it is cut back to a checkpoint."""

import gzip
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.recipe import read_config, to_flat, to_json

# settings that may change when a run goes on: none of them alters what has been computed
FREE_KEYS = frozenset(
    {
        "train.iterations", "train.save_every", "train.keep_checkpoints", "train.watchdog_s",
        "train.trials_logged", "train.wandb", "train.max_skipped_updates",
    }
)  # fmt: skip


class RunFolder:
    """config.json, metrics.jsonl, trials/, tensorboard/, checkpoints/, model/ of one run."""

    def __init__(self, config: Config, runs: Path, *, overwrite: bool = False) -> None:
        """Opens a new folder, or that of a run of the same configuration.

        Raises:
            ValueError: the folder holds a run of another configuration, or something that is no run.
        """
        self.path = runs / config.name
        self.config = config
        if overwrite and self.path.exists():
            self._check_is_run()
            shutil.rmtree(self.path)
        if self.path.exists():
            self._check_is_run()
            self._check_same_config()
        (self.path / "trials").mkdir(parents=True, exist_ok=True)
        _replace(self.path / "config.json", to_json(config))
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.board: Any = None
        self.wandb: Any = None

    def start(self, iteration: int) -> None:
        """Cuts every record back to the first `iteration` iterations and opens the event files."""
        cut_metrics(self.metrics, iteration)
        for path in (self.path / "trials").iterdir():
            if not path.name.split(".")[0].isdecimal() or int(path.name.split(".")[0]) >= iteration:
                path.unlink()
        if iteration == 0:
            shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(self.path / "tensorboard"), purge_step=iteration)
        if self.config.train.wandb:
            self.wandb = _start_wandb(self.config, self.path)

    def write_metrics(self, record: dict[str, Any]) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        for key, value in _scalars(record):
            self.board.add_scalar(key, value, record["iteration"])
        self.board.flush()
        if self.wandb is not None:
            self.wandb.log(dict(_scalars(record)), step=record["iteration"])

    def write_trials(self, iteration: int, records: Iterable[dict[str, Any]]) -> None:
        """One trial per line; equal trials give equal bytes."""
        path = self.path / "trials" / f"{iteration:06d}.jsonl.gz"
        with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file:
            for record in records:
                file.write(json.dumps(record).encode() + b"\n")

    def sync_metrics(self) -> None:
        """To the disk, before a checkpoint refers to them."""
        with self.metrics.open("a") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
        if self.wandb is not None:
            self.wandb.finish()

    def _check_is_run(self) -> None:
        if any(self.path.iterdir()) and not (self.path / "config.json").is_file():
            raise ValueError(f"{self.path} exists and is no run (it has no config.json); take another --name")

    def _check_same_config(self) -> None:
        path = self.path / "config.json"
        if not (self.path / "metrics.jsonl").is_file():
            return  # nothing has been computed yet
        try:
            saved = to_flat(read_config(path))
        except ValueError as error:
            raise ValueError(f"{error}; take another --name or --overwrite") from None
        free = FREE_KEYS - ({"train.iterations"} if self.config.learn.schedule == "cosine" else set())
        for key, value in to_flat(self.config).items():
            if key not in free and saved[key] != value:
                raise ValueError(
                    f"{self.path} holds a run with {key} = {saved[key]!r}, now it is {value!r}; "
                    "take another --name, or --overwrite to discard that run"
                )


def cut_metrics(path: Path, iteration: int) -> None:
    """Keeps the records of the first `iteration` iterations. Half a last line, from a crash, goes.

    Raises:
        ValueError: a record that the checkpoint counts is missing or damaged.
    """
    lines = path.read_text().splitlines(keepends=True)[:iteration] if path.is_file() else []
    for number, line in enumerate(lines):
        try:
            found = json.loads(line)["iteration"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise ValueError(f"{path}, line {number + 1} is damaged: {line[:80]!r}") from None
        if found != number:
            raise ValueError(f"{path}, line {number + 1} is of iteration {found}, expected {number}")
    if len(lines) < iteration:
        raise ValueError(f"{path} has {len(lines)} records, the checkpoint has {iteration} iterations")
    _replace(path, "".join(lines))


def _replace(path: Path, text: str) -> None:
    """Writes a file so that a crash leaves the old text or the new one."""
    new = path.with_name(f".new-{path.name}")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _scalars(record: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, list):
            yield from ((f"{prefix}{key}/{i + 1}", float(v)) for i, v in enumerate(value))
        elif key != "iteration":
            yield prefix + key, float(value)


def _start_wandb(config: Config, path: Path) -> Any:
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError:
        raise ValueError("train.wandb = True, but wandb is not installed (pip install wandb)") from None
    return wandb.init(project="lamer-fast", name=config.name, dir=str(path), config=to_flat(config))
