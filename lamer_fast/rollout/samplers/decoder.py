"""Forward pass of a Hugging Face decoder over its own weights, with a KV cache of fixed slots.

Plain functions over the model's tensors: a decode step of a small model on a CPU costs tens of microseconds
of Python per layer this way, a millisecond through the modules and a `DynamicCache`.

Axis letters: B rows, N tokens of one pass (row after row), H hidden, D head size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

ARCHITECTURES = ("llama", "qwen2", "qwen3")  # SmolLM2 is a llama
FUSE_BELOW_PARAMETERS = 100_000_000  # fused projections cost a copy of most weights


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

    def attend(self, layer: "Layer", qkv: Tensor, keys: Any, values: Any) -> Tensor:
        """[N, (heads + 2 kv heads) * D] -> [N, heads * D]; writes the new keys and values into the cache."""
        ...

    def gate(self, gate_up: Tensor) -> Tensor:
        """[N, 2 F] -> silu(first half) * second half, [N, F]."""
        ...


class Decoder:
    """Qwen2, Qwen3, Llama and SmolLM2 with full attention; anything else is refused by name."""

    def __init__(self, model: Any, max_tokens: int) -> None:
        config = model.config
        check_supported(config)
        self.model = model
        weight = model.get_input_embeddings().weight
        self.device = weight.device
        self.shape = Shape(
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            eps=config.rms_norm_eps,
            dtype=weight.dtype,
        )
        angles = torch.arange(max_tokens)[:, None] * model.model.rotary_emb.inv_freq.cpu().float()
        angles = torch.cat((angles, angles), dim=-1)
        # rounded to the model's dtype, as the model's own forward pass rounds them
        cos, sin = (table.to(self.device, weight.dtype) for table in (angles.cos(), angles.sin()))
        self.backend = make_backend(self.shape, cos, sin)
        self._fuse = sum(p.numel() for p in model.parameters()) < FUSE_BELOW_PARAMETERS
        self.refresh()

    def new_cache(self, num_slots: int, old: KVCache | None = None) -> KVCache:
        """With `old`, a larger cache that holds what the old one did."""
        new = self.backend.new_cache(num_slots, len(self._layers))
        if old is not None:
            for before, after in zip(old.keys + old.values, new.keys + new.values, strict=True):
                after[: len(before)] = before
        return new

    def refresh(self) -> None:
        """Take over changed weights. Only fused projections are copies."""
        model = self.model
        self._layers = [Layer(layer, self._fuse) for layer in model.model.layers]
        self._embedding = model.get_input_embeddings().weight.detach()
        self._final_norm = model.model.norm.weight.detach()
        self._head = model.get_output_embeddings().weight.detach()

    def forward(self, rows: Rows, cache: KVCache) -> Tensor:
        """Hidden states after the final norm, [N, H]; keys and values go into the cache."""
        backend = self.backend
        ends = np.cumsum(rows.counts)
        backend.begin(rows, np.arange(ends[-1]) - np.repeat(ends - rows.counts - rows.starts, rows.counts))
        x = F.embedding(torch.from_numpy(rows.token_ids).to(self.device), self._embedding)
        update = None
        for layer, keys, values in zip(self._layers, cache.keys, cache.values, strict=True):
            qkv = layer.qkv(backend.norm(x, layer.input_norm, update))
            update = layer.o(backend.attend(layer, qkv, keys, values))
            gate_up = layer.gate_up(backend.norm(x, layer.post_norm, update))
            update = layer.down(backend.gate(gate_up))
        return backend.norm(x, self._final_norm, update)

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, V] float32."""
        return F.linear(hidden, self._head).float()


def make_backend(shape: Shape, cos: Tensor, sin: Tensor) -> Backend:
    """The numba kernels on a CPU, torch operations elsewhere and for what the kernels do not take."""
    if (
        cos.device.type == "cpu"
        and shape.head_size % 8 == 0
        and shape.dtype in (torch.float32, torch.bfloat16)
    ):
        from lamer_fast.rollout.samplers.backend_cpu import CpuBackend

        return CpuBackend(shape, cos, sin)
    from lamer_fast.rollout.samplers.backend_torch import TorchBackend

    return TorchBackend(shape, cos, sin)


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


def check_supported(config: Any) -> None:
    """Raises ValueError naming what of the architecture the decoder does not compute."""
    if config.model_type not in ARCHITECTURES:
        raise ValueError(f"model type {config.model_type!r} is not one of {', '.join(ARCHITECTURES)}")
    for i, layer_type in enumerate(getattr(config, "layer_types", None) or ()):
        if layer_type != "full_attention":
            raise ValueError(f"layer {i} is of type {layer_type!r}, only 'full_attention' is supported")
    rope_type = config.rope_parameters.get("rope_type", "default")
    if rope_type != "default":
        raise ValueError(f"rotary positions of type {rope_type!r}, only 'default' is supported")
    if config.hidden_act != "silu":
        raise ValueError(f"activation {config.hidden_act!r}, only 'silu' is supported")
