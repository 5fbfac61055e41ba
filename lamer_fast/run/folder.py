"""runs/NAME/: what a run leaves behind, written by one process at a time."""

import gzip
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lamer_fast import files
from lamer_fast.config import Config
from lamer_fast.config.resolve import to_json
from lamer_fast.fields import to_flat
from lamer_fast.files import replace_file, writing
from lamer_fast.run import records, whose
from lamer_fast.run.lock import MARK, FolderLock, check_free
from lamer_fast.say import log
from lamer_fast.strict_json import json_text


class RunFolder:
    """The mark, config.json, metrics.jsonl, trials/, tensorboard/, checkpoints/, model/ of one run.

    Making one only looks. As a context manager it holds the folder's lock; `start` is the first to write.
    """

    def __init__(self, config: Config, runs: Path, *, overwrite: bool = False) -> None:
        """A new folder, or that of a run of the same configuration.

        Raises:
            ValueError: the folder is somebody else's, in use, or holds a run of another configuration.
            CannotWrite: it cannot be made or written.
        """
        self.config, self.overwrite = config, overwrite
        self.path = runs / config.name
        self.board: Any = None
        self.wandb: Any = None
        self._locks: list[FolderLock] = []
        self._above: Path | None = None  # the nearest folder there was when this one was made
        self._unsynced: list[Path] = []
        for package in ["tensorboard", *(["wandb"] if config.train.wandb else [])]:
            if find_spec(package) is None:
                raise ValueError(f"a run logs to {package}, which is not installed (pip install {package})")
        with writing(self.path):
            whose.check_place(self.path, runs)
            if self.path.is_symlink():
                self.path = Path(os.path.realpath(self.path))
            self._check()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def trace(self, iteration: int) -> Path:
        return self.path / "traces" / f"{iteration:06d}.json.gz"

    def _check(self) -> None:
        """Whether this run may begin here."""
        old = self.path.with_name(f".old-{self.path.name}")
        if old.is_dir() and not self.path.exists():
            check_free(old)  # else an --overwrite is just going on
            files.recover(self.path)
        if not self.path.exists() or not any(self.path.iterdir()):
            return
        whose.check_is_run(self.path, "; take another --name")
        if not self._locks:
            check_free(self.path)
        if self.overwrite:
            whose.check_may_go(self.path, self.config)
        else:
            whose.check_same_config(self.path, self.config)

    def __enter__(self) -> "RunFolder":
        """Takes the lock and looks again; raises as when it was made."""
        try:
            with writing(self.path):
                self._check()
                if not self.path.exists():
                    self._above = files.existing(self.path)
                    self.path.mkdir(parents=True, exist_ok=True)
                self._locks.append(FolderLock(self.path))
                self._check()
        except BaseException:
            self.__exit__()
            raise
        if self._locks[0].note:
            log.warning(self._locks[0].note)
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            with suppress(OSError):  # every record has been flushed; a full disk has been reported
                self.board.close()
            threading.excepthook = self._excepthook
        if self.wandb is not None:
            self.wandb.finish()
        if self._above is not None and not (self.path / "config.json").exists():
            self._leave_nothing()
        while self._locks:
            self._locks.pop().release()

    def _leave_nothing(self) -> None:
        """Of a folder that was made for a run that did not start."""
        with suppress(OSError):
            files.remove(self.path / MARK)
            for folder in (self.path.absolute(), *self.path.absolute().parents):
                if folder == self._above:
                    break
                folder.rmdir()

    def check_space(self, num_bytes: int, what: str) -> None:
        """Raises ValueError when the disk lacks room for `num_bytes` more; `what` says what they are."""
        free = files.free_bytes(self.path)
        if self.overwrite and self.path.exists():
            free += files.folder_bytes(self.path)
        if num_bytes > free:
            needs = f"{what} need {files.size_text(num_bytes)}, {files.size_text(free)} are free"
            raise ValueError(f"{self.path}: {needs}; make room, or take --runs on another disk")

    def start(self, iteration: int) -> None:
        """Cuts every record back to the first `iteration` iterations and opens the event files.

        An earlier run is overwritten by the new folder: moved aside before, deleted once that is there.

        Raises:
            CannotWrite: nothing was removed.
        """
        if self.overwrite and (self.path / "config.json").exists():
            files.replace_folder(self.path, self._make_locked)
        else:
            self._make(self.path)
        for folder in (self.path, self.checkpoints):
            files.sweep(folder)
        records.cut(self.path, iteration)
        if iteration == 0:
            files.remove(self.path / "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        with writing(self.path / "tensorboard"):
            self.board = SummaryWriter(str(self.path / "tensorboard"), purge_step=iteration)
        self._excepthook, threading.excepthook = threading.excepthook, self._note_of_thread
        if self.config.train.wandb:
            import wandb  # type: ignore[import-not-found]

            settings = {"project": "lamer-fast", "name": self.config.name, "config": to_flat(self.config)}
            self.wandb = wandb.init(dir=str(self.path), **settings)

    def _make_locked(self, folder: Path) -> None:
        self._locks.append(FolderLock(folder))
        self._make(folder)

    def _make(self, folder: Path) -> None:
        with writing(folder):
            (folder / "trials").mkdir(exist_ok=True)
        replace_file(folder / "config.json", to_json(self.config))

    def _note_of_thread(self, args: threading.ExceptHookArgs) -> None:
        """The event files' writer is a thread; its failed write is raised again by the next `flush`."""
        if not (isinstance(args.exc_value, OSError) and "tensorboard" in type(args.thread).__module__):
            self._excepthook(args)

    def write_metrics(self, record: dict[str, Any]) -> None:
        """One line of JSON, such as `Record.to_json` gives it, and its numbers to the boards."""
        line = json_text(record) + "\n"
        with writing(self.metrics, len(line)), self.metrics.open("a") as file:
            file.write(line)
        with writing(self.path / "tensorboard"):
            for key, value in _scalars(record):
                self.board.add_scalar(key, value, record["iteration"])
            self.board.flush()
        if self.wandb is not None:
            self.wandb.log(dict(_scalars(record)), step=record["iteration"])

    def write_trials(self, iteration: int, trials: Iterable[dict[str, Any]]) -> None:
        """One trial per line; equal trials give equal bytes."""
        path = self.path / "trials" / f"{iteration:06d}.jsonl.gz"
        with writing(path), path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
            for trial in trials:
                file.write(json_text(trial).encode() + b"\n")
        self._unsynced.append(path)

    def sync(self) -> None:
        """Metrics and trials to the disk, before a checkpoint refers to them."""
        for path in (*self._unsynced, self.metrics):
            with writing(path):
                files.sync(path)
        self._unsynced.clear()


def _scalars(record: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, list):
            yield from ((f"{prefix}{key}/{i + 1}", float(v)) for i, v in enumerate(value))
        elif key != "iteration" and isinstance(value, int | float):
            yield prefix + key, float(value)
