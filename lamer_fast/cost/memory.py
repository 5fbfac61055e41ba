"""What a run takes in memory: each part with its bytes, when it is there, and the settings that size it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from lamer_fast.config import Config
from lamer_fast.cost.tokens import TokenBounds
from lamer_fast.device import GIB
from lamer_fast.fields import to_flat
from lamer_fast.learn.gradients import Shard
from lamer_fast.learn.optimizer_state import STATE_BYTES
from lamer_fast.model.quantised import base_layers, packed_bytes
from lamer_fast.rollout.turn_table import COLUMNS
from lamer_fast.samplers.local.sampler import num_slots
from lamer_fast.samplers.vllm.memory import (
    ADAPTER_COPIES,
    engine_memory,
    head_size,
    kv_bytes_per_token,
    mlp_size,
)
from lamer_kernels.head.projection import MAX_WORKSPACE_BYTES

TRIAL_BYTES = 8 << 10  # its objects and its board
TURN_BYTES = 2 * sum(dtype().itemsize for dtype in COLUMNS.values())  # the table, and its copy without gaps
TOKEN_BYTES = 64  # of a stored token: as it grows, in the batch, in the packed tensors
TRIALS = ("rollout.groups", "rollout.trials_per_group")
CONTEXT = GIB  # of a process on a GPU: its context, the libraries' workspaces, fragments
PREFILL_TOKENS = 4096  # of one pass of the local sampler

When = Literal["always", "updating", "sampling"]


@dataclass(frozen=True)
class Part:
    name: str
    bytes: float
    settings: tuple[str, ...]  # which make it smaller
    when: When = "always"
    on_host: bool = False  # in the host's memory, wherever the model is


@dataclass(frozen=True)
class Memory:
    """Upper bounds, beside what there is; bytes."""

    parts: tuple[Part, ...]
    device: str
    available: int  # of the device
    host: float  # infinite: not looked at, for a GPU of another machine
    shard: Shard = "none"  # what processes divide among them

    def total(self, *, on_host: bool = False) -> float:
        """The most at one time on the device, which has all of it on a CPU; or on the host beside a GPU."""
        mine = [part for part in self.parts if self.device == "cpu" or part.on_host == on_host]
        always, updating, sampling = (sum(p.bytes for p in mine if p.when == when) for when in get_args(When))
        return always + max(updating, sampling)

    def rows(self) -> Iterator[str]:
        for part in self.parts:
            place = " (host)" if part.on_host and self.device != "cpu" else ""
            yield f"{part.name + place:<40} {part.bytes / GIB:9.3f} GiB"
        yield f"{'total':<40} {self.total() / GIB:9.3f} GiB of {self.available / GIB:.1f}"

    def _pools(self) -> list[tuple[bool, str, float]]:
        host = [] if self.device == "cpu" else [(True, "the host", self.host)]
        return [(False, self.device, float(self.available)), *host]

    @property
    def fits(self) -> bool:
        return all(self.total(on_host=on_host) <= available for on_host, _, available in self._pools())

    def check(self, config: Config) -> None:
        """Raises ValueError when it does not fit, with the largest part and the settings that make it so."""
        for on_host, place, available in self._pools():
            total = self.total(on_host=on_host)
            if total <= available:
                continue
            mine = [part for part in self.parts if self.device == "cpu" or part.on_host == on_host]
            most, values = max(mine, key=lambda part: part.bytes), to_flat(config)
            sizes = ", ".join(f"{key} = {values[key]}" for key in most.settings)
            raise ValueError(
                f"the run needs about {total / GIB:,.1f} GiB, {place} has {available / GIB:,.1f} GiB; most "
                f"of it: {most.name}, {most.bytes / GIB:,.1f} GiB, by {sizes}; --dry-run shows every part"
            )


def memory_of(
    config: Config,
    files: Any,
    bounds: TokenBounds,
    dtype: torch.dtype,
    device: torch.device,
    *,
    training: bool,
    available: int | None = None,
    processes: int = 1,
    shard: Shard | None = None,
) -> Memory:
    """Of training, or of an evaluation (the weights and a sampler alone); `files` are `ModelFiles`.

    Args:
        available: bytes of a GPU that need not be here, nor its host; None asks `device`.
        processes: it is that of one of so many: a GPU is its own, the host's memory is shared.
        shard: what they divide; None: as `learn.shard` says, `auto` as little as fits.
    """
    if shard is None and training and processes > 1:
        possible = [
            memory_of(
                config, files, bounds, dtype, device,
                training=True, available=available, processes=processes, shard=choice,
            )
            for choice in choices(config)
        ]  # fmt: skip
        return next((memory for memory in possible if memory.fits), min(possible, key=Memory.total))
    shard = shard or "none"
    config = of_one_process(config, processes)
    shape, n, item = files.config.get_text_config(), files.num_parameters, dtype.itemsize
    r, trials = config.rollout, config.rollout.groups * config.rollout.trials_per_group
    parts = _weights(config, files, dtype, device, processes, shard, training=training)
    if training:
        parts += _training(config, files, bounds, dtype, device, processes, shard)
    if device.type == "cuda":
        parts.append(Part("CUDA context, workspaces, fragments", CONTEXT, ("train.device",)))
    if r.sampler == "vllm":
        parts += _vllm(config, shape, num_of_engine(config, files), dtype, device)
    else:
        of_sampler = _torch_sampler(config, shape, dtype)
        parts += of_sampler
        if training and r.reflector == "first":
            parts.append(Part("first policy, which writes", n * item, ("model.path", "rollout.reflector")))
            parts += [replace(part, name=f"its {part.name}") for part in of_sampler]
    turns = r.episodes * r.max_turns + (r.episodes - 1) * r.reflect
    stored = bounds.sequences * min(bounds.sequence, r.max_sequence_tokens)
    parts.append(
        Part(
            f"boards, turns and tokens of {trials:,} trials",
            trials * (TRIAL_BYTES + turns * TURN_BYTES + stored * TOKEN_BYTES),
            (*TRIALS, "rollout.episodes", "rollout.max_turns", "rollout.max_sequence_tokens"),
            on_host=True,
        )
    )
    found = tuple(part for part in parts if part.bytes)
    if available is not None:
        return Memory(found, device.type, available, math.inf, shard)
    host = host_memory() // processes
    most = device_memory(device) if device.type == "cuda" else host
    return Memory(found, device.type, most, host, shard)


def _weights(
    config: Config, files: Any, dtype: torch.dtype, device: torch.device, processes: int, shard: Shard,
    *, training: bool,
) -> list[Part]:  # fmt: skip
    """Of the policy, and of the sampler where it has its own."""
    n, item, kind = files.num_parameters, dtype.itemsize, str(dtype).removeprefix("torch.")
    sizes = "model.path", "model.dtype"
    if training and config.model.base_format != "plain":
        return _quantised(config, files, dtype)
    if shard != "full":
        return [Part(f"weights, {kind}", n * item, sizes)]
    parts = [Part(f"weights of two layers and the rest, {kind}", gathered(files) * item, sizes, "updating")]
    if config.rollout.sampler == "torch":
        apart = config.model.lora_rank > 0 and config.rollout.adapter == "apart"
        own = n * item + apart * 4 * num_trained(config, files)
        parts.append(Part(f"sampler's own weights, {kind}", own, sizes))
    if config.model.lora_rank:
        parts.append(Part(f"rows of the frozen weights, {kind}", n * item / processes, sizes))
    if device.type == "cuda":
        parts.append(Part("model as it is read", n * item, ("model.path",), on_host=True))
    return parts


def num_trained(config: Config, files: Any) -> int:
    """Elements of what is trained: all parameters, or those of adapters."""
    rank, dora = config.model.lora_rank, config.model.dora
    if not rank:
        return int(files.num_parameters)
    return sum(rank * (m.in_features + m.out_features) + dora * m.out_features
               for m in adapted_projections(config, files))  # fmt: skip


def _quantised(config: Config, files: Any, dtype: torch.dtype) -> list[Part]:
    """The weights, and the values of one that a pass makes: int8 by way of float32."""
    kind, linear = config.model.base_format, base_layers(files.shape)
    values = [m.in_features * m.out_features for _, m in linear]
    rest = (files.num_parameters - sum(values)) * dtype.itemsize
    size = rest + sum(packed_bytes(kind, m.in_features, m.out_features) for _, m in linear)
    widest = max(values) * (dtype.itemsize + 4 * (kind == "int8"))
    return [
        Part(f"weights, {kind}", size, ("model.path", "model.base_format")),
        Part("values of the widest weight", widest, ("model.path",)),
    ]


def num_of_engine(config: Config, files: Any) -> int:
    """Elements of what vLLM holds: the model, and adapters where it has them apart."""
    apart = config.model.lora_rank > 0 and config.rollout.adapter == "apart"
    return int(files.num_parameters) + apart * ADAPTER_COPIES * num_trained(config, files)


def num_of_critic(config: Config, files: Any) -> int:
    """Elements that the critic, where there is one, trains beside the policy's."""
    shape = files.config.get_text_config()
    if config.algo.estimator != "gae":
        return 0
    if config.algo.critic == "head" or config.model.lora_rank:
        own = num_trained(config, files) if config.algo.critic == "trunk" else 0
        return int(own + shape.hidden_size)
    tied = getattr(files.config, "tie_word_embeddings", False)
    head = 0 if tied else shape.vocab_size * shape.hidden_size
    return int(files.num_parameters - head + shape.hidden_size)


def adapted_projections(config: Config, files: Any) -> list[Any]:
    """The linear layers that get adapters."""
    names = {name.strip() for name in config.model.lora_targets.split(",")}
    model = files.shape
    linear = [(n, m) for n, m in model.named_modules() if hasattr(m, "in_features")]
    return [m for n, m in linear if config.model.lora_rank and m is not model.get_output_embeddings()
            and ("all-linear" in names or n.rpartition(".")[2] in names)]  # fmt: skip


def saved_by_adapters(config: Config, files: Any, dtype: torch.dtype) -> int:
    """Bytes that adapters keep of a token until the backward pass, over all layers.

    Each projection keeps its input in float32, cast for itself, and the rank's values; DoRA also what base
    and adapter gave, which the gradient of the row lengths reads.
    """
    rank, dora = config.model.lora_rank, config.model.dora
    cast = dtype.itemsize < 4
    return sum(4 * (m.in_features * cast + rank + 3 * m.out_features * dora)
               for m in adapted_projections(config, files))  # fmt: skip


def groups_of_rank(config: Config, ranks: int) -> int:
    """Groups that a rank plays at most."""
    return -(-config.rollout.groups // ranks)


def of_one_process(config: Config, processes: int) -> Config:
    """What the rank with most to do does."""
    return replace(config, rollout=replace(config.rollout, groups=groups_of_rank(config, processes)))


def choices(config: Config) -> list[Shard]:
    """What several processes may divide, the least first."""
    learn = config.learn
    if learn.shard != "auto":
        return [learn.shard]
    if learn.optimizer != "adamw" or learn.offload_optimizer != "none":
        return ["none"]
    whole = config.model.base_format != "plain" or config.algo.estimator == "gae"
    return ["none", "optimizer"] if whole else ["none", "optimizer", "full"]


def gathered(files: Any) -> int:
    """Elements that are whole at one time where all weights are divided: two layers, and what is in none."""
    layers = files.shape.get_decoder().layers
    layer = sum(p.numel() for p in layers[0].parameters())
    return int(files.num_parameters - (len(layers) - 2) * layer)


def _training(
    config: Config,
    files: Any,
    bounds: TokenBounds,
    dtype: torch.dtype,
    device: torch.device,
    processes: int,
    shard: Shard,
) -> list[Part]:
    shares, full = 1 if shard == "none" else processes, shard == "full"
    shape, n, trained = files.config.get_text_config(), files.num_parameters, num_trained(config, files)
    r, item = config.rollout, dtype.itemsize
    heads, hidden, layers = shape.num_attention_heads, shape.hidden_size, shape.num_hidden_layers
    kv_heads = getattr(shape, "num_key_value_heads", None) or heads
    stored = r.groups * r.trials_per_group * bounds.sequences * min(bounds.sequence, r.max_sequence_tokens)
    packed = min(config.learn.max_microbatch_tokens, stored)
    # kept of a token and layer: what both norms read and gave, q, k and v before and after their rotation,
    # what attention gave, gate, up and their product; of one layer the gradients of these three, going back
    attention = (3 * heads + 4 * kv_heads) * head_size(shape)
    mlp = 3 * mlp_size(shape) * item
    per_layer = item * (4 * hidden + attention) + mlp
    adapters, beside = config.model.lora_rank > 0, saved_by_adapters(config, files, dtype)
    recomputed = config.model.activation_checkpointing
    at_once = 1 if recomputed else layers  # layers whose activations are there; of the others their input
    activations = packed * (at_once * per_layer + mlp + recomputed * layers * item * hidden)
    logits = packed * shape.vocab_size * (4 if device.type == "cuda" else item)
    workspace = min(logits, MAX_WORKSPACE_BYTES["cuda" if device.type == "cuda" else "cpu"])
    offloaded = config.learn.offload_optimizer == "rollout" and device.type == "cuda"
    state = trained * STATE_BYTES[config.learn.optimizer] / shares
    apart = shares > 1 or (item < 4 and not adapters)  # adapters are their own masters, unless these are rows
    sizes: tuple[str, ...] = ("model.path", "model.lora_rank")
    in_shares = full and config.learn.reduce_every == "microbatch"
    summed = trained / shares + min(trained, gathered(files)) if in_shares else trained
    by_tokens = ("learn.max_microbatch_tokens", "model.activation_checkpointing")
    merged = r.sampler == "torch" and r.adapter == "merged" and not full  # then it has all weights of its own
    critic, of_critic = num_of_critic(config, files), ("algo.critic", "model.path")
    own_weights = item * (not adapters) + 4 * max(adapters, apart / shares)
    critic_state = critic * state / trained
    wrapped = sum(m.in_features * m.out_features for m in adapted_projections(config, files))
    return [
        Part("float32 masters", trained * 4 * ((adapters and not full) + apart / shares), sizes),
        Part("float32 gradients", summed * 4, (*sizes, "learn.reduce_every") if full else sizes, "updating"),
        Part("optimizer state", state, (*sizes, "learn.optimizer"), "updating" if offloaded else "always"),
        Part("optimizer state while sampling", state * offloaded, (*sizes, "learn.optimizer"), on_host=True),
        Part("critic's weights and float32 masters", critic * own_weights, of_critic),
        Part("critic's float32 gradients", critic * 4, of_critic, "updating"),
        Part("critic's optimizer state", critic_state, (*of_critic, "learn.optimizer"),
             "updating" if offloaded else "always"),
        Part("critic's optimizer state while sampling", critic_state * offloaded, of_critic, on_host=True),
        Part(f"activations of {packed:,} tokens", activations, by_tokens, "updating"),
        Part("activations of the adapters", packed * beside * at_once / layers,
             (*by_tokens, "model.lora_targets"), "updating"),
        Part("head: float32 gradient and workspace",
             (0 if adapters else shape.vocab_size * hidden * 4) + workspace, ("model.path",), "updating"),
        Part("frozen reference", n * item / (shares if full else 1)
             if config.algo.kl_coef > 0 and not adapters else 0, ("model.path", "algo.kl_coef")),
        Part("merged copy of the adapted weights", merged * wrapped * item,
             ("rollout.adapter", "model.lora_targets")),
    ]  # fmt: skip


def _torch_sampler(config: Config, shape: Any, dtype: torch.dtype) -> list[Part]:
    r = config.rollout
    slots = num_slots(r.groups * r.trials_per_group, r.cache_tokens, r.max_sequence_tokens)
    cached, rotary = slots * r.max_sequence_tokens, r.max_sequence_tokens * head_size(shape) * 8
    size = cached * kv_bytes_per_token(shape, dtype) + rotary
    sizes = ("rollout.cache_tokens", *TRIALS, "rollout.max_sequence_tokens")
    when: When = "sampling" if r.sleep_during_updates else "always"
    rows = min(slots, r.max_in_flight)  # float32 logits and two copies on the way to a draw
    tokens = min(PREFILL_TOKENS, rows * r.max_sequence_tokens)
    step = tokens * dtype.itemsize * (3 * mlp_size(shape) + 4 * shape.hidden_size)
    step += 3 * 4 * rows * shape.vocab_size
    return [
        Part(f"key-value cache of {cached:,} tokens", size, sizes, when),
        Part("sampler's workspace", step, ("rollout.max_in_flight", *TRIALS), "sampling"),
        Part("ids and log-probabilities of the cache", cached * 8, sizes, on_host=True),
    ]


def _vllm(config: Config, shape: Any, n: int, dtype: torch.dtype, device: torch.device) -> list[Part]:
    """Its own copy of the weights among them; freed during updates where it sleeps."""
    r = config.rollout
    engine = engine_memory(shape, n, dtype, r)
    when: When = "sampling" if r.sleep_during_updates and device.type == "cuda" else "always"
    sizes = ("rollout.cache_tokens", *TRIALS, "rollout.max_sequence_tokens")
    step = ("rollout.max_in_flight", "rollout.prefill_tokens")
    return [
        Part("vLLM's own weights", engine.weights, ("model.path",), when),
        Part(f"vLLM's own key-value cache of {engine.cache_tokens:,} tokens", engine.cache, sizes, when),
        Part("vLLM's own workspace", engine.workspace, step, when),
    ]


def device_memory(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[1]) if device.type == "cuda" else host_memory()


def host_memory() -> int:
    """Bytes of this machine, or of the container where it has a limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text().strip() for path in CGROUP_LIMITS if path.is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdecimal())])


CGROUP_LIMITS = tuple(map(Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")))
