"""Whose a folder is, and whether a run may begin in it. Nothing here writes."""

import json
import os
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config.resolve import read_config
from lamer_fast.fields import to_flat
from lamer_fast.files import existing
from lamer_fast.run.lock import MARK

# settings that may change when a run goes on: none of them alters what has been computed
FREE_KEYS = frozenset(
    {
        "train.iterations", "train.save_every", "train.keep_checkpoints", "train.watchdog_s",
        "train.trials_logged", "train.wandb", "train.profile", "train.max_skipped_updates",
        "train.processes", "train.max_restarts", "learn.shard",
        "env.workers", "env.timeout_s", "eval.panels",
    }
)  # fmt: skip

SCHEDULED = {"learn.schedule": "cosine", "algo.gamma_traj_schedule": "linear"}  # over all iterations

# what a run and the commands that look at it write in its folder; anything else there is somebody's
CONTENT = frozenset(
    {
        MARK, "config.json", "metrics.jsonl", "trials", "tensorboard", "checkpoints", "model", "skipped",
        "eval", "report.html", "wandb", "traces", "adapter", "starts.jsonl",
        "comparison.html", "cpu_seconds",
    }
)  # fmt: skip

# some settings that every version has written: they tell a run of the first version, which made no mark
FIRST_KEYS = frozenset(
    {"name", "env.name", "model.path", "rollout.groups", "algo.gamma_traj", "learn.lr", "train.iterations"}
)


def is_run(folder: Path) -> bool:
    """A run wrote it. The folder of a model, or any other with a config.json, is none."""
    if (folder / MARK).is_file():
        return True
    try:
        settings = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.keys() >= FIRST_KEYS


def check_place(path: Path, runs: Path) -> None:
    """Raises ValueError or PermissionError unless a run's folder can be made or written at `path`."""
    longest = os.pathconf(existing(runs), "PC_NAME_MAX") - len(".new-")
    if len(os.fsencode(path.name)) > longest:
        raise ValueError(f"name = {path.name!r} has {len(path.name)} letters, at most {longest} are possible")
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path} is a link to {os.readlink(path)}, which is not there")
    above = existing(path)
    if not above.is_dir():
        raise ValueError(f"{above} is no folder, so that no run can be kept in {path}")
    for folder in (runs.resolve(), *runs.resolve().parents):
        if is_run(folder):
            raise ValueError(f"--runs {runs} lies in the folder of a run, {folder}")
    for written in [above, *(path / name for name in sorted(CONTENT) if (path / name).exists())]:
        if not os.access(written, os.W_OK, effective_ids=True):
            raise PermissionError(0, f"{written} is not writable")


def check_is_run(path: Path, advice: str = "") -> None:
    if not is_run(path):
        if not path.exists():
            raise ValueError(f"{path}: no such folder{advice}; lamer-fast runs lists those there are")
        lacks = f"it has neither {MARK} nor a config.json with a run's settings{_runs_near(path)}"
        raise ValueError(f"{path} is not the folder of a run: {lacks}{advice}")


def _runs_near(path: Path) -> str:
    """Of a folder of runs, or a part of a run: what may have been meant."""
    inside = sorted(p.name for p in path.iterdir() if is_run(p)) if path.is_dir() else []
    if inside:
        more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
        return f"; it holds {', '.join(inside[:3])}{more}"
    above = path.absolute().parent
    return f"; {above} is one" if is_run(above) else ""


def check_may_go(path: Path, config: Config) -> None:
    """Raises ValueError unless all of `path` is a run's to delete, and nothing of it is needed."""
    foreign = sorted(p.name for p in path.iterdir() if p.name not in CONTENT and p.name[:5] != ".new-")
    if foreign:
        raise ValueError(f"{path} holds {foreign[0]!r}, which no run wrote; move it away before --overwrite")
    if Path(os.path.realpath(config.model.path)).is_relative_to(os.path.realpath(path)):
        raise ValueError(
            f"model.path = {config.model.path!r} lies in {path}, which --overwrite would remove; "
            "take another --name"
        )


def check_same_config(path: Path, config: Config) -> None:
    """Raises ValueError if a run in `path` has computed something by other settings."""
    try:
        found = first_difference(path, config)
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}; take another --name or --overwrite") from None
    if found is None:
        return
    key, before, value = found
    why = "; take another --name,"
    if key == "train.iterations":
        scheduled = _fixing(config)[0]
        why = f": {scheduled} is {SCHEDULED[scheduled]!r}, whose values all depend on it. To train on, take"
        why += f" another --name with --model.path {path / 'model'},"
    raise ValueError(
        f"{path} holds a run with {key} = {before!r}, now it is {value!r}{why} "
        "or --overwrite to discard that run"
    )


def first_difference(path: Path, config: Config) -> tuple[str, Any, Any] | None:
    """(key, value there, value now) of a setting that keeps the run in `path` from going on by `config`.

    Raises:
        OSError, ValueError: the settings of that run cannot be read.
    """
    if not (path / "metrics.jsonl").is_file() and not (path / "checkpoints").is_dir():
        return None
    saved, fixed = to_flat(read_config(path / "config.json")), _fixing(config)
    for key, value in to_flat(config).items():
        before = saved.get(key)  # None: an option of another environment
        if before != value and (key not in FREE_KEYS or (key == "train.iterations" and fixed)):
            return key, before, value
    return None


def _fixing(config: Config) -> list[str]:
    """Schedules that fix the number of iterations."""
    flat = to_flat(config)
    return [key for key, value in SCHEDULED.items() if flat[key] == value]
