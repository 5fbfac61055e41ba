"""What a vLLM engine takes beside the trainer on one device. Imports no vLLM: the plan of a run asks too."""

from dataclasses import dataclass
from typing import Any

import torch

from lamer_fast.config import RolloutConfig
from lamer_fast.device import GIB

MARGIN = GIB  # CUDA graphs, cuBLAS workspaces, fragments
ADAPTER_COPIES = 2  # as it came, and where the layers read it


@dataclass(frozen=True)
class EngineMemory:
    """Bytes."""

    weights: int
    cache_tokens: int
    cache: int
    workspace: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.workspace

    def share(self, free: int, total: int) -> float:
        """``gpu_memory_utilization``: of all memory, the part that this engine takes.

        vLLM refuses to start where that part is not free, and its default is nine tenths, which are never
        free beside a trainer.

        Raises:
            ValueError: it is not free.
        """
        if self.total > free:
            raise ValueError(
                f"vLLM needs {self.total / GIB:.1f} GiB (weights {self.weights / GIB:.1f}, key-value cache "
                f"of {self.cache_tokens:,} tokens {self.cache / GIB:.1f}, workspace "
                f"{self.workspace / GIB:.1f}), {free / GIB:.1f} of {total / GIB:.1f} GiB are free beside the "
                "trainer: lower rollout.cache_tokens or rollout.max_in_flight, or take a smaller model"
            )
        return self.total / total


def engine_memory(
    shape: Any, num_parameters: int, dtype: torch.dtype, rollout: RolloutConfig
) -> EngineMemory:
    """Args:
        shape: the model's Hugging Face configuration.

    Raises:
        ValueError: the cache does not hold one sequence.
    """
    r, item = rollout, dtype.itemsize
    cache_tokens = r.cache_tokens or r.groups * r.trials_per_group * r.max_sequence_tokens
    if cache_tokens < r.max_sequence_tokens:
        raise ValueError(
            f"KV memory for {cache_tokens} tokens does not hold one trial of up to "
            f"{r.max_sequence_tokens} (rollout.cache_tokens, rollout.max_sequence_tokens)"
        )
    # of one engine step: the gated MLP of its tokens; float32 logits, log-probabilities and a sorted copy
    step_tokens = max(r.prefill_tokens, r.max_in_flight)
    activations = step_tokens * item * (3 * mlp_size(shape) + 4 * shape.hidden_size)
    logits = 3 * 4 * r.max_in_flight * shape.vocab_size
    return EngineMemory(
        weights=num_parameters * item,
        cache_tokens=cache_tokens,
        cache=cache_tokens
        * kv_bytes_per_token(shape, torch.float8_e4m3fn if r.kv_cache_dtype == "fp8" else dtype),
        workspace=MARGIN + activations + logits,
    )


def mlp_size(shape: Any) -> int:
    """Width of the inner layer; a configuration that does not say it means four times the stream's."""
    inner = getattr(shape, "intermediate_size", None) or getattr(shape, "n_inner", None)
    return int(inner or 4 * shape.hidden_size)


def head_size(shape: Any) -> int:
    return int(getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads)


def kv_bytes_per_token(shape: Any, dtype: torch.dtype) -> int:
    kv_heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    return int(2 * shape.num_hidden_layers * kv_heads * head_size(shape) * dtype.itemsize)
