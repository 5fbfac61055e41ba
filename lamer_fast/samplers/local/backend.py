"""What a pass of the decoder is made of: rows, cache, weights, and the back end between the matrix products.

Axis letters: B rows, N tokens of one pass (row after row), H hidden, D head size, F width of the MLP.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass
class KVCache:
    """Keys and values, one array per layer, slots first; type and layout are the `Backend`'s.

    Zeros to begin with: a masked position weighs 0, which would not silence a NaN of uninitialised memory.
    """

    keys: list[Any]
    values: list[Any]

    @property
    def num_slots(self) -> int:
        return len(self.keys[0])


@dataclass(frozen=True)
class Rows:
    """What one pass computes: for each row, the tokens that follow those already in its slot."""

    slots: NDArray[np.int64]  # [B]
    starts: NDArray[np.int64]  # [B] tokens already in the cache
    counts: NDArray[np.int64]  # [B] new tokens, at least 1
    token_ids: NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Shape:
    num_heads: int
    num_kv_heads: int
    head_size: int
    eps: float
    dtype: torch.dtype


class Layer:
    """One layer's weights; `q_norm` and `k_norm` are None but in Qwen3."""

    def __init__(self, layer: Any, fuse: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm: Tensor = layer.input_layernorm.weight.detach()
        self.post_norm: Tensor = layer.post_attention_layernorm.weight.detach()
        self.q_norm: Tensor | None = (
            attention.q_norm.weight.detach() if hasattr(attention, "q_norm") else None
        )
        self.k_norm: Tensor | None = (
            attention.k_norm.weight.detach() if hasattr(attention, "k_norm") else None
        )
        self.qkv = _Linear((attention.q_proj, attention.k_proj, attention.v_proj), fuse)
        self.gate_up = _Linear((mlp.gate_proj, mlp.up_proj), fuse)
        self.o = _Linear((attention.o_proj,), fuse)
        self.down = _Linear((mlp.down_proj,), fuse)


class _Linear:
    """Several projections of one input, side by side in the output."""

    def __init__(self, modules: tuple[Any, ...], fuse: bool) -> None:
        weights = [module.weight.detach() for module in modules]
        biases = [None if module.bias is None else module.bias.detach() for module in modules]
        if fuse and len(modules) > 1:
            biases = [None if biases[0] is None else torch.cat([bias for bias in biases if bias is not None])]
            weights = [torch.cat(weights)]
        self.parts = list(zip(weights, biases, strict=True))

    def __call__(self, x: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return F.linear(x, *self.parts[0])
        return torch.cat([F.linear(x, weight, bias) for weight, bias in self.parts], dim=-1)


class Backend(Protocol):
    """What lies between the matrix products of a layer, cache included."""

    ragged: bool  # rows of different widths may share a pass at no cost

    def new_cache(self, num_slots: int, num_layers: int) -> KVCache: ...

    def begin(self, rows: Rows, positions: NDArray[np.int64]) -> None:
        """Called once per pass; positions: [N]."""
        ...

    def norm(self, x: Tensor, weight: Tensor, update: Tensor | None = None) -> Tensor:
        """RMS norm of x [N, H], after `update` has been added to x in place."""
        ...

    def attend(self, layer: Layer, qkv: Tensor, keys: Any, values: Any) -> Tensor:
        """[N, (heads + 2 kv heads) * D] -> [N, heads * D]; writes the new keys and values into the cache."""
        ...

    def gate(self, gate_up: Tensor) -> Tensor:
        """[N, 2 F] -> silu(first half) * second half, [N, F]."""
        ...
