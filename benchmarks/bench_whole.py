"""How long is a whole training iteration of Qwen3 on this device, and how near its rates do the parts come?

Random weights made on the device, the tokenizer of the shipped base model, Minesweeper: replies say nothing
and do not stop, so that each has its full length. The first iteration warms up, the second is measured;
seconds are the run's own record. The cache of keys and values of the largest size is freed for the update.
On a CPU a tiny shape only: a smoke test.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from harness import Case, Row, main, measured
from model_shapes import DEVICE, NAMES, ON_GPU, make_model
from transformers import AutoTokenizer

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.cost.limits import Limits
from lamer_fast.learn.policy import Policy
from lamer_fast.model.path import SHIPPED
from lamer_fast.run.display import Display
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.loop import train, transfer
from lamer_fast.run.state import build_state
from lamer_fast.run.stop import StopRequest


@dataclass(frozen=True)
class Size:
    groups: int
    trials_per_group: int
    microbatch: int
    sleeps: bool = False
    checkpointing: bool = False


# what fits: parameters of 2 bytes, masters, gradients and AdamW's state of 16, activations
OF_80_GB = {
    "tiny": Size(2, 4, 16_384),
    "Qwen3-0.6B": Size(16, 16, 16_384),
    "Qwen3-1.7B": Size(12, 16, 8_192),
    "Qwen3-4B": Size(16, 8, 8_192, sleeps=True, checkpointing=True),
}
OF_140_GB = {
    "Qwen3-0.6B": Size(16, 16, 32_768),
    "Qwen3-1.7B": Size(16, 16, 16_384),
    "Qwen3-4B": Size(16, 8, 8_192, sleeps=True),
}
IS_LARGE = ON_GPU and torch.cuda.get_device_properties(0).total_memory > 120e9
SIZES = OF_80_GB | (OF_140_GB if IS_LARGE else {})
TURNS, LENGTH, REPLY = 3, 800, 48 if ON_GPU else 6


def settings(size: Size, runs: Path) -> Config:
    config = recipe.resolve("minesweeper-qwen3-4b")
    return replace(
        config,
        name="whole",
        env=replace(config.env, prompt="compact", style="compact"),
        rollout=replace(
            config.rollout, groups=size.groups, trials_per_group=size.trials_per_group, episodes=2,
            max_turns=TURNS, max_reply_tokens=REPLY, max_reflection_tokens=64, context="trial", memory="both",
            max_sequence_tokens=LENGTH, cache_tokens=size.groups * size.trials_per_group * LENGTH,
            sleep_during_updates=size.sleeps,
        ),
        learn=replace(
            config.learn, minibatches=1, optimizer="adamw", offload_optimizer="none",
            max_microbatch_tokens=size.microbatch,
        ),
        eval=replace(config.eval, every=0),
        train=replace(config.train, iterations=2, save_every=1_000, device=DEVICE.type),
    )  # fmt: skip


def iterate(name: str, runs: Path) -> tuple[dict[str, Any], float]:
    """The record of the second iteration, and its seconds by the clock."""
    config = settings(SIZES[name], runs)
    model = make_model(name)
    if SIZES[name].checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED["minesweeper-tiny-base"])
    state = build_state(
        config, Policy(model.train(), tokenizer, torch.bfloat16, num_ids=model.config.vocab_size)
    )
    state.limits = Limits.of(model, state.policy.dtype)
    transfer(state, version=0)
    ended = []

    class Watch(Display):
        def update(self, record: dict[str, Any]) -> None:
            ended.append(time.perf_counter())
            super().update(record)

    with (
        RunFolder(config, runs) as folder,
        StopRequest() as stop,
        Watch(config.name, config.train.iterations) as display,
    ):
        folder.start(0)
        train(state, folder, display, stop)
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    del state  # it holds itself by cycles
    return json.loads(lines[-1]), ended[-1] - ended[-2]


def bench(case: Case) -> list[Row]:
    gc.collect()  # the case before it
    if ON_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        with tempfile.TemporaryDirectory() as runs:
            record, seconds = iterate(case.model, Path(runs))
    except torch.OutOfMemoryError as error:
        return [measured(case.model, [], "iteration", "s", check=f"FAILED: {str(error)[:90]}")]
    took, tokens = record["seconds"], record["tokens"]
    good = record["counters"]["updates"] == 1 and record["grad_norm"] > 0
    check = "passed" if good else f"FAILED: {record['counters']}, gradient norm {record['grad_norm']}"
    sampled, stored = tokens["sampled"], tokens["sampled"] + tokens["prompt"]
    values = [
        (case.model, seconds, "iteration", "s", None),
        (f"  {sampled:,} tokens sampled", sampled / took["sample"], "sample", "tokens/s", None),
        (f"  {stored:,} tokens learnt from", stored / took["learn"], "learn", "tokens/s", None),
        ("  updates, of the matmul rate", took["least_learn"] / took["learn"], "learn", "share", 0.45),
        ("  sampling, of the memory rate", took["least_sample"] / took["sample"], "sample", "share", None),
    ]
    values += [(f"  {phase}", took[phase], phase, "s", None) for phase in ("sample", "env", "learn", "sync")]
    rows = [
        measured(label, [value], metric, unit, check=check, goal=goal)
        for label, value, metric, unit, goal in values
    ]
    rows[0].peak_memory_bytes = torch.cuda.max_memory_allocated() if ON_GPU else None
    return rows


if __name__ == "__main__":
    main(bench, [Case(model=name, **asdict(SIZES[name])) for name in NAMES])
