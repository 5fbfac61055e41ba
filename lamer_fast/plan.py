"""What a configuration will take, before it starts: tokens, memory and time. Upper bounds, not forecasts."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lamer_fast.agent.agent import Agent, Ask
from lamer_fast.agent.memory import Memory
from lamer_fast.config import Config
from lamer_fast.envs.contract import AllLostError
from lamer_fast.envs.registry import check_at_start, make_env
from lamer_fast.learn.policy import compute_dtype, read_model
from lamer_fast.learn.state import TrainState, pick_device
from lamer_fast.model_path import path_notes
from lamer_fast.rollout.guard import EnvGuard
from lamer_fast.rollout.samplers.vllm_memory import GIB, engine_memory, kv_bytes_per_token

if TYPE_CHECKING:
    from lamer_fast.envs.protocol import TextBatchEnv

NUM_PROBES = 64  # boards whose texts stand for all
VLLM = "vLLM's own"  # first words of rows of the plan's memory
UPDATING = ("float32 gradients", "activations", "head")


@dataclass(frozen=True)
class TokenBounds:
    """Most tokens of one trial's parts, if every reply has its full length and every limit is reached."""

    first_prompt: int
    """The longest prompt that opens a conversation, without what it remembers of earlier episodes."""
    sequence: int
    """The longest sequence."""
    sequences: int
    """Sequences of a trial."""
    sampled: int
    """Sampled tokens of a trial."""
    prefilled: int
    """Prompt tokens computed by a sampler that keeps its cache within a sequence."""


def token_bounds(config: Config, agent: Agent, env: TextBatchEnv) -> TokenBounds:
    """From the texts of a few boards and the limits of the rollout."""
    r = config.rollout
    probes = np.arange(min(NUM_PROBES, env.num_envs), dtype=np.int64)
    guard = EnvGuard(env, max_chars=r.max_sequence_tokens * agent.renderer.max_token_chars + 1)
    guard.reset(probes.astype(np.uint64))
    board, task = max(guard.observe(probes), key=len), max(guard.task_texts(probes), key=len)
    lists = guard.legal_actions(probes) if agent.shows_actions else []
    actions = max(lists, key=lambda replies: sum(map(len, replies)), default=[])
    if len(guard.errors) == len(probes):
        raise AllLostError(f"none of the first {len(probes)} boards can be drawn: {guard.errors[0]}")

    def length(ask: Ask, episode: int = 0) -> int:
        """Ids of a prompt that needs nothing remembered."""
        shown = () if ask == Ask.REFLECTION else actions
        text = agent.text(ask, Memory(board, task=task), episode, board, board, shown)
        render = agent.renderer.start if agent.starts_sequence(ask) else agent.renderer.bridge
        return len(render(text))

    first, board_tokens = length(Ask.FIRST), len(agent.renderer.bridge(board))
    plays = r.max_turns * r.max_reply_tokens
    reflections = (r.episodes - 1) * r.reflect
    sampled = r.episodes * plays + reflections * r.max_reflection_tokens
    quoted = reflections * r.max_reflection_tokens if r.memory in ("reflection", "both") else 0
    if r.context == "trial":
        asks = r.episodes * (r.max_turns - 1) * length(Ask.TURN)
        asks += reflections * length(Ask.REFLECTION) + (r.episodes - 1) * length(Ask.EPISODE, 1)
        return TokenBounds(first, first + asks + sampled, 1, sampled, first + asks)
    action = 16  # an action as quoted in a history, with its line
    if r.context == "episode":
        past = r.episodes - 1 if r.memory in ("history", "both") else 0
        history = past * min(r.max_turns, r.history_turns) * action + past * r.history_boards * board_tokens
        asks = (r.max_turns - 1) * length(Ask.TURN) + r.reflect * length(Ask.REFLECTION)
        opening = first + quoted + history
        sequence = opening + asks + plays + r.reflect * r.max_reflection_tokens
        return TokenBounds(first, sequence, r.episodes, sampled, r.episodes * (opening + asks))
    prompt = first + quoted + r.history_turns * (action + board_tokens)
    turns = r.episodes * r.max_turns + reflections
    longest = prompt + max(r.max_reply_tokens, r.max_reflection_tokens if reflections else 0)
    return TokenBounds(first, longest, turns, sampled, turns * prompt)


def check_prompts(config: Config, agent: Agent, env: TextBatchEnv) -> list[str]:
    """Compares the longest sequences with the limits; returns what the user should know.

    Raises:
        ValueError: not even the first prompt and one reply fit.
    """
    bounds, r = token_bounds(config, agent, env), config.rollout
    if bounds.first_prompt + r.max_reply_tokens > r.max_sequence_tokens:
        raise ValueError(
            f"the first prompt has {bounds.first_prompt} tokens and rollout.max_reply_tokens = "
            f"{r.max_reply_tokens}: together more than rollout.max_sequence_tokens = {r.max_sequence_tokens}"
        )
    notes = []
    if bounds.sequence > r.max_sequence_tokens:
        notes.append(
            f"a sequence can reach {bounds.sequence} tokens if every reply is as long as allowed, "
            f"rollout.max_sequence_tokens is {r.max_sequence_tokens}: longer trials end as truncated"
        )
    return notes + path_notes(config.model.path) + list(agent.renderer.notes)


def say_notes(state: TrainState) -> None:
    """Prints what the user should know of the state that is about to work; raises as `check_prompts` does."""
    for note in check_prompts(state.config, state.agent, state.env):
        print(f"note: {note}", flush=True)


@dataclass(frozen=True)
class Plan:
    """Memory in bytes on the training device, time in seconds per iteration."""

    device: str
    memory: dict[str, float]
    updating: frozenset[str]
    """Names in `memory` of what is there only while the policy is updated."""
    sampling: frozenset[str]
    """Of what is freed meanwhile: vLLM's, where it sleeps."""
    seconds: dict[str, float]
    available: int
    bounds: TokenBounds
    num_parameters: int
    notes: list[str]

    def __str__(self) -> str:
        b = self.bounds
        lines = [
            f"model        {self.num_parameters:,} parameters on {self.device}",
            f"tokens       first prompt {b.first_prompt}, sequence at most {b.sequence}, "
            f"sampled per trial at most {b.sampled}",
        ]
        lines += [f"memory       {name:<34} {size / GIB:9.3f} GiB" for name, size in self.memory.items()]
        total = f"{self.total / GIB:9.3f} GiB of {self.available / GIB:.1f}"
        lines.append(f"memory       {'total':<34} {total}")
        lines += [f"time         {name:<34} {s:9.1f} s at most" for name, s in self.seconds.items()]
        return "\n".join(lines + [f"note         {note}" for note in self.notes])

    @property
    def total(self) -> float:
        """The most bytes at one time."""
        updating, sampling = (
            sum(size for name, size in self.memory.items() if name in names)
            for names in (self.updating, self.sampling)
        )
        return sum(self.memory.values()) - min(updating, sampling)

    def check_fits(self) -> None:
        total = self.total
        if total > self.available:
            most = max(self.memory, key=lambda name: self.memory[name])
            raise ValueError(
                f"the run needs about {total / GIB:.1f} GiB, {self.device} has "
                f"{self.available / GIB:.1f} GiB; most of it: {most}"
            )


def estimate(config: Config) -> Plan:
    """Loads the tokenizer and the model's shape (no weights), and measures the device for a moment."""
    check_at_start(config.env)
    device = pick_device(config.train.device)
    dtype = compute_dtype(config.model, device)
    files = read_model(config)
    shape = files.config
    num_parameters = sum(p.numel() for p in files.shape.parameters())
    env = make_env(config.env, NUM_PROBES, split="train")
    agent = Agent(files.renderer(), env, config)
    bounds = token_bounds(config, agent, env)
    memory = _memory(config, shape, num_parameters, bounds, dtype, device)
    available, notes = _available(device), check_prompts(config, agent, env)
    if config.rollout.sampler == "vllm" and device.type == "cuda":
        engine = engine_memory(shape, num_parameters, dtype, config.rollout).total
        notes.append(
            f"vLLM starts with gpu_memory_utilization = {engine / available:.3f}: {engine / GIB:.1f} of "
            f"{available / GIB:.1f} GiB"
        )
    asleep = config.rollout.sleep_during_updates and device.type == "cuda"
    return Plan(
        device=str(device),
        memory=memory,
        updating=frozenset(name for name in memory if name.startswith(UPDATING)),
        sampling=frozenset(name for name in memory if asleep and name.startswith(VLLM)),
        seconds=_seconds(config, shape, num_parameters, bounds, dtype, device),
        available=available,
        bounds=bounds,
        num_parameters=num_parameters,
        notes=notes,
    )


def _memory(
    config: Config, shape: Any, n: int, bounds: TokenBounds, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    r, item = config.rollout, dtype.itemsize
    trials = r.groups * r.trials_per_group
    heads, hidden, layers = shape.num_attention_heads, shape.hidden_size, shape.num_hidden_layers
    head_dim = getattr(shape, "head_dim", None) or hidden // heads
    kv_heads = getattr(shape, "num_key_value_heads", None) or heads
    sequence = min(bounds.sequence, r.max_sequence_tokens)
    packed = min(config.learn.max_microbatch_tokens, trials * bounds.sequences * sequence)
    # saved per token and layer: two float32 norms, q, k, v and the attention's output, the gated MLP
    per_layer = 16 * hidden + item * (
        4 * heads * head_dim + 4 * kv_heads * head_dim + 4 * shape.intermediate_size
    )
    checkpointed = config.model.activation_checkpointing
    activations = packed * (per_layer + layers * item * hidden if checkpointed else layers * per_layer)
    adam = 2 if config.learn.optimizer == "adamw_8bit" else 8
    memory = {
        f"weights, {str(dtype).removeprefix('torch.')}": n * item,
        "float32 masters": n * 4 if item < 4 else 0,
        "float32 gradients": n * 4,
        "optimizer state": n * adam,
        f"activations of {packed:,} tokens": activations,
        "head: float32 gradient and workspace": shape.vocab_size * hidden * 4
        + (1.25e9 if device.type == "cuda" else 64 << 20),
    }
    if r.sampler == "vllm":
        engine = engine_memory(shape, n, dtype, r)
        memory |= {
            f"{VLLM} weights": engine.weights,
            f"{VLLM} key-value cache of {engine.cache_tokens:,} tokens": engine.cache,
            f"{VLLM} workspace": engine.workspace,
        }
    else:
        cached = r.cache_tokens or min(trials, r.max_in_flight) * sequence
        memory[f"key-value cache of {cached:,} tokens"] = cached * kv_bytes_per_token(shape, dtype)
    if config.algo.kl_coef > 0:
        memory["frozen reference"] = n * item
    return {name: size for name, size in memory.items() if size}


def _seconds(
    config: Config, shape: Any, n: int, bounds: TokenBounds, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    r = config.rollout
    flop_rate, byte_rate = _measure(dtype, device)
    trials = r.groups * r.trials_per_group
    computed = trials * (bounds.sampled + bounds.prefilled)
    reads = (
        bounds.sampled * n * dtype.itemsize * max(1, trials // r.max_in_flight)
    )  # weights once per decoded token
    passes = 6 * config.learn.epochs + 2 * (config.algo.old_logprobs == "recompute")
    passes += 2 * (config.algo.kl_coef > 0) + 2 * config.model.activation_checkpointing * config.learn.epochs
    stored = trials * bounds.sequences * min(bounds.sequence, r.max_sequence_tokens)
    return {
        "collect": max(2 * n * computed / flop_rate, reads / byte_rate),
        "update": passes * n * stored / flop_rate,
        "sync": 0.0 if r.sampler == "torch" else 2 * n * dtype.itemsize / byte_rate,
    }


def _measure(dtype: torch.dtype, device: torch.device) -> tuple[float, float]:
    """(floating point operations, bytes copied) per second, of one product and one copy."""
    size = 4096 if device.type == "cuda" else 768
    a = torch.ones(size, size, dtype=dtype, device=device)
    b = torch.empty_like(a)

    def seconds(call: Any) -> float:
        best = float("inf")
        for _ in range(4):  # the first is a warm-up
            started = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
        return best

    flop_rate = 2 * size**3 / seconds(lambda: torch.mm(a, a, out=b))
    return flop_rate, 2 * a.numel() * a.element_size() / seconds(lambda: b.copy_(a))


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
