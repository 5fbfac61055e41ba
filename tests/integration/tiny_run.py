"""A training run of a tiny random Qwen3 on Minesweeper 4x4 that takes seconds."""

import json
from pathlib import Path

from lamer_fast import cli

TINY = {
    "env.height": 4,
    "env.width": 4,
    "env.num_mines": 2,
    "env.prompt": "compact",
    "env.style": "compact",
    "rollout.groups": 2,
    "rollout.trials_per_group": 3,
    "rollout.max_turns": 2,
    "rollout.max_reply_tokens": 6,
    "rollout.max_reflection_tokens": 6,
    "rollout.max_sequence_tokens": 512,
    "learn.lr": 1e-3,
    "train.iterations": 6,
    "train.save_every": 2,
    "train.num_threads": 1,
    "train.device": "cpu",
}


def recipe_file(folder: Path, model: Path, **changes: object) -> Path:
    """TINY with `changes` (section__key=value) as a TOML file."""
    values = TINY | {"model.path": str(model)} | {k.replace("__", "."): v for k, v in changes.items()}
    path = folder / "tiny.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return path


def train_main(recipe: Path | str, runs: Path, *overrides: str) -> int:
    return cli.main(["train", str(recipe), "--runs", str(runs), *overrides])
