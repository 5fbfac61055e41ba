"""Checks that train for an iteration or two."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from lamer_fast.config import Config
from lamer_fast.doctor.check import Failed, Skipped
from lamer_fast.run import records
from lamer_fast.run.stop import INTERRUPTED


def flat_at_zero_lr(config: Config, runs: Path) -> str:
    """With lr = 0 nothing may drift: the mismatch of the second iteration is that of the first."""
    frozen = replace(config, name="zero-lr", learn=replace(config.learn, lr=0.0, weight_decay=0.0))
    train(frozen, runs)
    first, second = (r.mismatch.mean for r in records.read(runs / "zero-lr" / "metrics.jsonl"))
    if not second <= 3 * first + 1e-5:  # nan is wrong too
        raise Failed(
            f"mismatch grew from {first:.1e} to {second:.1e} nats", "sampler and trainer drift: report it"
        )
    return f"mismatch {first:.1e}, then {second:.1e} nats"


def resume_is_no_resume(config: Config, runs: Path) -> str:
    """Two iterations; then the last checkpoint is lost and the second is made again: the same bits."""
    config = replace(config, name="resume", learn=replace(config.learn, lr=1e-4))
    last = runs / "resume" / "checkpoints" / "000002"
    train(config, runs)
    whole = load_file(last / "masters.safetensors")
    shutil.rmtree(last)
    train(config, runs)
    again = load_file(last / "masters.safetensors")
    different = [name for name in whole if not whole[name].equal(again[name])]
    if different:
        advice = "bit equality holds on a CPU at a fixed thread count; on a GPU this is expected"
        raise Failed(f"{len(different)} of {len(whole)} tensors differ, {different[0]} among them", advice)
    return f"{len(whole)} tensors equal bit for bit after 2 iterations"


def train(config: Config, runs: Path) -> None:
    if config.rollout.sampler == "vllm":
        raise Skipped("only vLLM samples from this model, and a run would be a second engine in this process")
    from lamer_fast.run import job

    with contextlib.redirect_stdout(io.StringIO()):
        status = job.run(config, runs=runs)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
