"""How far from the physical limit: measured rates of a device, and the least time of a model's work on it.

Sampling reads the weights once per decoding step and the keys and values of every sequence at every step;
training multiplies. Both bounds leave recomputation, scheduling and everything else at zero.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamer_fast.model.quantised import num_weights
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels.bench.roofline import Rates, measure

__all__ = [
    "Limits", "Rates", "Shape", "decode_seconds", "measure", "sampling_seconds", "shape_of", "training_flop",
    "training_seconds",
]  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What a decoder costs per token."""

    body: int  # parameters outside embedding and head
    head: int  # H x V
    layers: int
    width: int  # heads x head_dim of the queries
    kv_width: int  # heads x head_dim of the keys
    bytes_per_value: int

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_width * self.bytes_per_value


def shape_of(model: Any) -> Shape:
    """From a Hugging Face causal language model (on any device, meta included)."""
    config = model.config
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    total = num_weights(model)
    outside = embedding.numel() + (0 if head is embedding else head.numel())
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return Shape(
        body=total - outside,
        head=head.numel(),
        layers=config.num_hidden_layers,
        width=heads * head_dim,
        kv_width=kv_heads * head_dim,
        bytes_per_value=head.dtype.itemsize,
    )


def training_flop(shape: Shape, lengths: NDArray[np.int64], loss_tokens: int) -> float:
    """Forward and backward of packed sequences: 6 x body x T + causal attention + 6 x H x V x L."""
    tokens, squares = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
    attention = 6.0 * shape.layers * shape.width * squares  # 2 products, half of each masked, 3 passes
    return 6.0 * shape.body * tokens + attention + 6.0 * shape.head * loss_tokens


def decode_seconds(shape: Shape, rates: Rates, batch: int, length: float) -> float:
    """One decoding step of `batch` sequences of `length` tokens each."""
    weights = (shape.body + shape.head) * shape.bytes_per_value
    read = (weights + batch * length * shape.kv_bytes) / rates.bytes
    return max(read, 2.0 * (shape.body + shape.head) * batch / rates.flops)


def sampling_seconds(shape: Shape, rates: Rates, trials: TrialBatch) -> float:
    """Least time to sample the replies of `trials` side by side, with every prompt token computed once."""
    tokens = trials.token_end - trials.token_start
    if not len(tokens):
        return 0.0
    per_trial = np.zeros(trials.num_trials, np.int64)
    np.add.at(per_trial, trials.trial, tokens)
    position = trials.token_start - trials.cu_seqlens[trials.sequence] + tokens / 2
    weights = (shape.body + shape.head) * shape.bytes_per_value
    read = float(per_trial.max()) * weights + float((position * tokens).sum()) * shape.kv_bytes
    computed = 2.0 * shape.body * len(trials.tokens) + 2.0 * shape.head * float(tokens.sum())
    return max(read / rates.bytes, computed / rates.flops)


def training_seconds(shape: Shape, rates: Rates, trials: TrialBatch, epochs: int = 1) -> float:
    """Least time to train on `trials` once per epoch."""
    lengths = np.diff(trials.cu_seqlens)
    return epochs * training_flop(shape, lengths, trials.num_sampled) / rates.flops


@dataclass(frozen=True)
class Limits:
    """The physical limits of one model on one device."""

    shape: Shape
    rates: Rates

    @classmethod
    def of(cls, model: Any, dtype: torch.dtype) -> "Limits":
        """Measures the device of `model` for a fraction of a second; it computes in `dtype`."""
        shape = replace(shape_of(model), bytes_per_value=dtype.itemsize)
        return cls(shape, measure(dtype, model.get_output_embeddings().weight.device))

    def least_seconds(self, trials: TrialBatch, epochs: int) -> dict[str, float]:
        """What sampling `trials` and training on them would take at these limits."""
        return {
            "least_sample": sampling_seconds(self.shape, self.rates, trials),
            "least_learn": training_seconds(self.shape, self.rates, trials, epochs),
        }
