"""What a configuration will take, before it starts: tokens, memory and time. Upper bounds, not forecasts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lamer_fast.agent.agent import Agent
from lamer_fast.config import Config
from lamer_fast.cost.fit import Proposal, propose
from lamer_fast.cost.limits import measure
from lamer_fast.cost.memory import (
    Memory,
    memory_of,
    num_of_critic,
    num_of_engine,
    num_trained,
    of_one_process,
)
from lamer_fast.cost.tokens import NUM_PROBES, TokenBounds, check_prompts, token_bounds
from lamer_fast.device import GIB, pick_device
from lamer_fast.envs.registry import check_at_start, make_env
from lamer_fast.learn.policy import compute_dtype, read_model
from lamer_fast.samplers.vllm.memory import engine_memory

DIVIDE = {
    "none": "",
    "optimizer": ", which divide masters and optimizer state",
    "full": ", which divide weights, masters and optimizer state",
}


@dataclass(frozen=True)
class Plan:
    """Time in seconds per iteration."""

    memory: Memory
    seconds: dict[str, float]
    processes: int
    bounds: TokenBounds
    num_parameters: int
    num_trained: int
    dtype: torch.dtype
    notes: list[str]
    proposal: Proposal | None
    """What makes it fit; None where it fits, or where nothing does."""

    def __str__(self) -> str:
        b = self.bounds
        divide = DIVIDE[self.memory.shard]
        each = f", {self.processes} processes{divide}; what follows is of each" if self.processes > 1 else ""
        lines = [
            f"model        {self.num_parameters:,} parameters on {self.memory.device}{each}",
            f"tokens       first prompt {b.first_prompt}, sequence at most {b.sequence}, "
            f"sampled per trial at most {b.sampled}",
        ]
        lines += [f"memory       {row}" for row in self.memory.rows()]
        lines.append(f"fits         {'yes' if self.memory.fits else 'no'}")
        lines += self.proposal.rows() if self.proposal else []
        if not self.memory.fits and not self.proposal:
            lines.append("proposal     none: no settings of memory make it fit; take a smaller model")
        lines += [f"time         {name:<34} {s:9.1f} s at most" for name, s in self.seconds.items()]
        return "\n".join(lines + [f"note         {note}" for note in self.notes])


def estimate(config: Config, *, gpu_bytes: int | None = None) -> Plan:
    """Loads the tokenizer and the model's shape (no weights), and measures the device for a moment.

    Args:
        gpu_bytes: plan for a GPU of so much memory, which need not be here; times are then left out.

    Raises:
        ValueError: train.device = "cpu" with `gpu_bytes`.
    """
    check_at_start(config.env)
    if gpu_bytes is not None and config.train.device == "cpu":
        raise ValueError(f"train.device = 'cpu' contradicts a GPU of {gpu_bytes / GIB:g} GiB")
    device = pick_device(config.train.device) if gpu_bytes is None else torch.device("cuda")
    files = read_model(config)
    env = make_env(config.env, NUM_PROBES, split="train")
    agent = Agent(files.renderer(), env, config)
    bounds = token_bounds(config, agent, env)
    processes = config.train.processes
    if gpu_bytes is not None and config.model.dtype == "auto":
        dtype = torch.bfloat16
    else:
        dtype = compute_dtype(config.model, device)

    def memory_at(changed: Config) -> Memory:
        return memory_of(
            changed, files, bounds, dtype, device, training=True, available=gpu_bytes, processes=processes
        )

    memory, trained = memory_at(config), num_trained(config, files) + num_of_critic(config, files)
    notes, num_parameters = check_prompts(config, agent, env), files.num_parameters
    if config.rollout.sampler == "vllm" and device.type == "cuda":
        engine = engine_memory(files.config, num_of_engine(config, files), dtype, config.rollout).total
        notes.append(
            f"vLLM starts with gpu_memory_utilization = {engine / memory.available:.3f}: {engine / GIB:.1f} "
            f"of {memory.available / GIB:.1f} GiB"
        )
    of_one = of_one_process(config, processes)
    seconds = {} if gpu_bytes else _seconds(of_one, num_parameters, bounds, dtype, device)
    proposal = propose(config, memory_at)
    return Plan(memory, seconds, processes, bounds, num_parameters, trained, dtype, notes, proposal)


def _seconds(
    config: Config, n: int, bounds: TokenBounds, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    r = config.rollout
    rates = measure(dtype, device)
    trials = r.groups * r.trials_per_group
    drawn = trials + r.spare_groups * r.trials_per_group
    computed = drawn * (bounds.sampled + bounds.prefilled)
    rounds = max(1, trials // r.max_in_flight) + r.spare_groups
    reads = bounds.sampled * n * dtype.itemsize * rounds  # weights once per decoded token
    passes = 6 * config.learn.epochs + 2 * (config.algo.old_logprobs == "recompute")
    if config.algo.estimator == "gae":  # values before the updates, and a trunk that is trained
        passes += 2 + 6 * config.learn.epochs * (config.algo.critic == "trunk")
    passes += 6 * config.learn.epochs * (config.algo.consolidation > 0)
    passes += 2 * (config.algo.kl_coef > 0) + 2 * config.model.activation_checkpointing * config.learn.epochs
    stored = trials * bounds.sequences * min(bounds.sequence, r.max_sequence_tokens)
    return {
        "collect": max(2 * n * computed / rates.flops, reads / rates.bytes),
        "update": passes * n * stored / rates.flops,
        "sync": 0.0 if r.sampler == "torch" else 2 * n * dtype.itemsize / rates.bytes,
    }
