"""Checkpoints: atomic folders with everything that the future of a run depends on.

`checkpoints/000040/` = the state after 40 iterations. A folder under that name is complete: it is written
beside it, synced to the disk and renamed. Random numbers are functions of (seed, iteration): no generator is
stored.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lamer_fast.learn.state import TrainState

FORMAT = 1


def save(state: TrainState, folder: Path, score: float) -> Path:
    """Writes `folder/ITERATION`, then removes all but the latest few and the best.

    Args:
        folder: the run's checkpoints/.
        score: what `best` is judged by, higher is better.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints are intact.
    """
    if not state.best or score > state.best["score"]:
        state.best = {"iteration": state.iteration, "score": score}
    target = folder / f"{state.iteration:06d}"
    write_atomically(target, lambda path: _write(state, path))
    keep = set(finished(folder)[-state.config.train.keep_checkpoints :])
    for iteration in finished(folder):
        if iteration not in keep and iteration != state.best["iteration"]:
            _remove(folder / f"{iteration:06d}")
    return target


def _write(state: TrainState, path: Path) -> None:
    masters = {name: master.detach() for name, master in state.policy.masters.items()}
    save_file(masters, path / "masters.safetensors")
    save_file(state.optimizer.state_tensors(), path / "optimizer.safetensors")
    counters = {
        "format": FORMAT,
        "iteration": state.iteration,
        "num_updates": state.optimizer.num_updates,
        "skipped_in_row": state.skipped_in_row,
        "skipped": state.skipped,
        "best": state.best,
        "torch": torch.__version__,
    }
    (path / "state.json").write_text(json.dumps(counters, indent=1))


def load(state: TrainState, folder: Path) -> bool:
    """Puts the latest checkpoint under `folder` into `state`; False when there is none.

    Raises:
        ValueError: the checkpoint is of another model or format, or damaged.
    """
    iterations = finished(folder)
    if not iterations:
        return False
    load_from(state, folder / f"{iterations[-1]:06d}")
    return True


def load_from(state: TrainState, path: Path) -> None:
    try:
        counters: dict[str, Any] = json.loads((path / "state.json").read_text())
        masters = load_file(path / "masters.safetensors")
        optimizer = load_file(path / "optimizer.safetensors")
    except Exception as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error}") from error
    if counters["format"] != FORMAT:
        raise ValueError(f"checkpoint {path} has format {counters['format']}, this version reads {FORMAT}")
    load_masters(state.policy.masters, masters, path)
    state.policy.publish()
    state.optimizer.load_state_tensors(optimizer)
    state.optimizer.num_updates = counters["num_updates"]
    state.iteration = counters["iteration"]
    state.skipped_in_row, state.skipped = counters["skipped_in_row"], counters["skipped"]
    state.best = counters["best"]


@torch.no_grad()
def load_masters(masters: dict[str, torch.Tensor], saved: dict[str, torch.Tensor], path: Path) -> None:
    if saved.keys() != masters.keys():
        odd = sorted(saved.keys() ^ masters.keys())[0]
        where = "checkpoint" if odd in saved else "model"
        raise ValueError(f"checkpoint {path} is of another model: only the {where} has {odd}")
    for name, master in masters.items():
        if saved[name].shape != master.shape:
            shapes = f"{tuple(saved[name].shape)} there, {tuple(master.shape)} in the model"
            raise ValueError(f"checkpoint {path} is of another model: {name} is {shapes}")
        master.copy_(saved[name])


def finished(folder: Path) -> list[int]:
    """Iterations of the complete checkpoints, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def write_atomically(target: Path, write: Callable[[Path], None]) -> None:
    """Runs `write` on a new folder, syncs it to the disk and puts it in the place of `target`.

    A crash at any moment leaves either the old folder or the new one under that name, save in the instant
    between the two renames when an old one is replaced: then it stands beside as `.old-NAME`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = target.with_name(f".new-{target.name}"), target.with_name(f".old-{target.name}")
    if old.exists() and not target.exists():
        old.rename(target)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        new.mkdir()
        write(new)
        for path in [*new.rglob("*"), new]:
            sync(path)
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Forces a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """By way of another name, so that no half-removed checkpoint looks complete."""
    trash = path.with_name(f".old-{path.name}")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)
