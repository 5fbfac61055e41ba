"""What makes a run fit that does not: settings that save memory, the cheapest first, no more than needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config.resolve import apply
from lamer_fast.cost.memory import Memory
from lamer_fast.device import GIB
from lamer_fast.model.path import adapter_folder

Values = dict[str, Any]
CACHE, MICROBATCH = "rollout.cache_tokens", "learn.max_microbatch_tokens"
BASE = "model.base_format"
WHY = {
    "rollout.sleep_during_updates": "the sampler's memory is free during updates",
    "learn.offload_optimizer": "the optimizer's state is on the host while sampling",
    MICROBATCH: "fewer activations at one time, more passes",
    "model.activation_checkpointing": "each layer is computed twice",
    "rollout.adapter": "the local sampler then has no copy of the weights",
    "learn.reduce_every": "gradients are divided too; more is sent",
    CACHE: "fewer trials are sampled together",
    "rollout.prefill_tokens": "smaller steps of the sampler",
    "rollout.max_in_flight": "smaller steps of the sampler",
    "learn.optimizer": "2 bytes of state instead of 8; needs bitsandbytes",
    BASE: "the frozen weights in fewer bits: another base; needs bitsandbytes",
    "model.lora_rank": "adapters over a frozen base: other training, needs peft and about ten times learn.lr",
}


@dataclass(frozen=True)
class Proposal:
    values: Values  # dotted key -> value
    memory: Memory  # with them

    @property
    def flags(self) -> list[str]:
        """As the command line takes them."""
        return [x for key, value in self.values.items() for x in (_flag(key), _text(value))]

    def rows(self) -> Iterator[str]:
        for key, value in self.values.items():
            yield f"proposal     {_flag(key)} {_text(value)}  ({WHY[key]})"
        total, available = self.memory.total() / GIB, self.memory.available / GIB
        yield f"with all     {total:.1f} GiB of {available:.1f}: {' '.join(self.flags)}"


def propose(config: Config, memory_at: Callable[[Config], Memory]) -> Proposal | None:
    """None: `config` fits, or nothing here makes it fit. Boards, trials and sequences stay as they are.

    Args:
        memory_at: what a configuration takes.
    """

    def fits(steps: list[Values]) -> bool:
        changed = _with(config, steps)
        return changed is not None and memory_at(changed).fits

    if memory_at(config).fits:
        return None
    taken: list[Values] = []
    for step in _steps(config, memory_at(config).device == "cuda"):
        taken.append(step)
        if fits(taken):
            break
    else:
        return None
    for step in reversed(taken[:-1]):  # the dearest first: a later step may have made it needless
        rest = [other for other in taken if other is not step]
        taken = rest if fits(rest) else taken
    for key in (CACHE, MICROBATCH):
        for i in [i for i, step in enumerate(taken) if key in step][-1:]:
            larger = (size for size in _sizes(config, key) if size > taken[i][key])
            sizes = ([*taken[:i], {key: size}, *taken[i + 1 :]] for size in larger)
            taken = next((steps for steps in sizes if fits(steps)), taken)
    changed = _with(config, taken)
    assert changed is not None
    return Proposal(_merged(taken), memory_at(changed))


def _steps(config: Config, on_gpu: bool) -> Iterator[Values]:
    """Cheapest first: what costs nothing, then speed, then what changes the training."""
    r, vllm, longest = config.rollout, config.rollout.sampler == "vllm", config.rollout.max_sequence_tokens
    yield {"rollout.sleep_during_updates": True}
    if on_gpu:
        yield {"learn.offload_optimizer": "rollout"}
    yield {MICROBATCH: longest}
    if config.train.processes > 1 and config.learn.shard in ("auto", "full"):
        yield {"learn.reduce_every": "microbatch"}
    yield {"model.activation_checkpointing": True}
    if config.model.lora_rank and not vllm:
        yield {"rollout.adapter": "apart"}
    yield {CACHE: min(_cache_tokens(config), 8 * longest)}
    small = {"rollout.max_in_flight": min(r.max_in_flight, 64)}
    yield small | ({"rollout.prefill_tokens": min(r.prefill_tokens, 2048)} if vllm else {})
    if on_gpu:
        yield {"learn.optimizer": "adamw_8bit"}
    if not config.model.lora_rank and adapter_folder(config.model.path) is None:
        yield {"model.lora_rank": 32}
    if adapter_folder(config.model.path) is None:
        yield {BASE: "int8"}
        yield {BASE: "nf4"}
    yield {CACHE: longest}


def _sizes(config: Config, key: str) -> Iterator[int]:
    """From what the configuration has, by halves, down to one sequence."""
    longest = config.rollout.max_sequence_tokens
    size = (_cache_tokens(config) if key == CACHE else config.learn.max_microbatch_tokens) // 2
    while size > longest:
        yield size - size % longest if key == CACHE else size
        size //= 2


def _cache_tokens(config: Config) -> int:
    r = config.rollout
    return r.cache_tokens or r.groups * r.trials_per_group * r.max_sequence_tokens


def _with(config: Config, steps: list[Values]) -> Config | None:
    """None: the settings contradict each other."""
    changed = apply(config, _merged(steps))
    try:
        changed.validate()
    except ValueError:
        return None
    return changed


def _merged(steps: list[Values]) -> Values:
    return {key: value for step in steps for key, value in step.items()}


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
