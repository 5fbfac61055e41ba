"""starts.jsonl: when a run began or went on, on which machine, by which versions, and its needs on a card."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lamer_fast import __version__
from lamer_fast.config import Config
from lamer_fast.cost.memory import Memory, memory_of
from lamer_fast.cost.tokens import token_bounds
from lamer_fast.device import GIB, cpu_name
from lamer_fast.files import read_jsonl, writing
from lamer_fast.learn.policy import compute_dtype, read_model
from lamer_fast.run.state import TrainState
from lamer_fast.strict_json import json_text

NAME = "starts.jsonl"
CARD_GIB = 24
PACKAGES = ("torch", "transformers", "numpy", "numba", "triton", "vllm", "peft")


def write_start(folder: Path, state: TrainState) -> None:
    """Appends one line. A start anew is the first of its file."""
    path = folder / NAME
    earlier = read_jsonl(path, growing=True) if path.exists() and state.iteration else []
    lines = [*earlier, start_of(state)]
    with writing(path):
        path.write_text("".join(json_text(line) + "\n" for line in lines), encoding="utf-8")


def start_of(state: TrainState) -> dict[str, Any]:
    device = state.policy.device
    return {
        "iteration": state.iteration,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {cpu_name()}",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | versions(),
        "card": on_card(state),
    }


def on_card(state: TrainState) -> dict[str, Any]:
    """Upper bounds of what the run would need on a GPU of CARD_GIB, in the compute type that it has there."""
    config, device = state.config, torch.device("cuda")
    kind = replace(config.model, dtype="bfloat16") if config.model.dtype == "auto" else config.model
    memory = memory_of(
        config, read_model(config), token_bounds(config, state.agent, state.env),
        compute_dtype(kind, device), device, training=True, available=CARD_GIB * GIB,
    )  # fmt: skip
    return of_memory(memory, config)


def of_memory(memory: Memory, config: Config) -> dict[str, Any]:
    parts = [asdict(part) | {"settings": list(part.settings)} for part in memory.parts]
    return {
        "available": memory.available,
        "total": memory.total(),
        "host": memory.total(on_host=True),
        "sampler": config.rollout.sampler,
        "parts": parts,
    }


def commit() -> str | None:
    """Of the working tree that this package runs from, None where it is an installed one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    asked = ("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
