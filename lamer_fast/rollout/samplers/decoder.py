"""Forward pass of a Hugging Face decoder over its own weights, with a KV cache of fixed slots.

Plain functions over the model's tensors: a decode step of a small model on a CPU costs a few hundred microseconds
of Python this way, several milliseconds through the modules and a `DynamicCache`.

Axis letters: B rows, N tokens of one pass (row after row), H hidden, D head size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

ARCHITECTURES = ("llama", "qwen2", "qwen3")  # SmolLM2 is a llama
FUSE_BELOW_PARAMETERS = 100_000_000  # fused projections cost a copy of the layers' weights


@dataclass
class KVCache:
    """Keys and values of every layer: lists of [slots, kv heads, max_tokens, D].

    Zeros to begin with: a masked position weighs 0, which would not silence a NaN of uninitialised memory.
    """

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def num_slots(self) -> int:
        return self.keys[0].shape[0]

    def grow(self, num_slots: int) -> None:
        """More slots; what the old ones hold stays."""
        for tensors in (self.keys, self.values):
            for i, old in enumerate(tensors):
                tensors[i] = old.new_zeros(num_slots, *old.shape[1:])
                tensors[i][: len(old)] = old


@dataclass(frozen=True)
class Rows:
    """What one pass computes: for each row, the tokens that follow those already in its slot."""

    slots: NDArray[np.int64]  # [B]
    starts: NDArray[np.int64]  # [B] tokens already in the cache
    counts: NDArray[np.int64]  # [B] new tokens, at least 1
    token_ids: NDArray[np.int64]  # [N]


class Decoder:
    """Qwen2, Qwen3, Llama and SmolLM2 with full attention; anything else is refused by name."""

    def __init__(self, model: Any, max_tokens: int) -> None:
        config = model.config
        check_supported(config)
        self.model = model
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        self.head_size: int = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self.eps: float = config.rms_norm_eps
        self.ragged = False
        self.max_tokens = max_tokens
        weight = model.get_input_embeddings().weight
        self.device, self.dtype = weight.device, weight.dtype
        inv_freq = model.model.rotary_emb.inv_freq.to(self.device, torch.float32)
        angles = torch.arange(max_tokens, device=self.device)[:, None] * inv_freq
        angles = torch.cat((angles, angles), dim=-1)
        self._cos, self._sin = angles.cos().to(self.dtype), angles.sin().to(self.dtype)
        self._fuse = sum(p.numel() for p in model.parameters()) < FUSE_BELOW_PARAMETERS
        self.refresh()

    def new_cache(self, num_slots: int) -> KVCache:
        shape = (num_slots, self.num_kv_heads, self.max_tokens, self.head_size)
        make = lambda: torch.zeros(shape, dtype=self.dtype, device=self.device)  # noqa: E731
        layers = range(len(self.model.model.layers))
        return KVCache([make() for _ in layers], [make() for _ in layers])

    def refresh(self) -> None:
        """Take over changed weights. Only fused projections are copies."""
        with torch.no_grad():
            self._layers = [_Layer(layer, self._fuse) for layer in self.model.model.layers]

    def forward(self, rows: Rows, cache: KVCache) -> Tensor:
        """Hidden states after the final norm, [N, H]; keys and values go into the cache."""
        row_starts = np.concatenate(([0], np.cumsum(rows.counts)[:-1]))
        offsets = np.arange(len(rows.token_ids)) - np.repeat(row_starts - rows.starts, rows.counts)
        positions = self._tensor(offsets)
        token_slots = self._tensor(np.repeat(rows.slots, rows.counts))
        attention = _Attention(self, rows, offsets)

        x = F.embedding(self._tensor(rows.token_ids), self.model.model.embed_tokens.weight)
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]
        heads, kv_heads, size, eps = self.num_heads, self.num_kv_heads, self.head_size, self.eps
        for layer, keys, values in zip(self._layers, cache.keys, cache.values, strict=True):
            qkv = layer.qkv(F.rms_norm(x, (x.shape[-1],), layer.input_norm, eps)).view(len(x), -1, size)
            q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
            if layer.q_norm is not None:
                q, k = F.rms_norm(q, (size,), layer.q_norm, eps), F.rms_norm(k, (size,), layer.k_norm, eps)
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
            keys[token_slots, :, positions] = k
            values[token_slots, :, positions] = v
            x = x + layer.o(attention(q, keys, values))
            gate, up = layer.gate_up(F.rms_norm(x, (x.shape[-1],), layer.post_norm, eps)).chunk(2, dim=-1)
            x = x + layer.down(F.silu(gate) * up)
        return F.rms_norm(x, (x.shape[-1],), self.model.model.norm.weight, eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """[N, V] float32."""
        return F.linear(hidden, self.model.get_output_embeddings().weight).float()

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)


class _Attention:
    """Causal attention of the new tokens of each row over its slot; the same index work for all layers."""

    def __init__(self, decoder: Decoder, rows: Rows, positions: NDArray[np.int64]) -> None:
        self.shape = (decoder.num_kv_heads, decoder.num_heads // decoder.num_kv_heads, decoder.head_size)
        self.length = int((rows.starts + rows.counts).max())
        self.slots = decoder._tensor(rows.slots)
        in_order = len(rows.slots) > 0 and bool((rows.slots == np.arange(len(rows.slots))).all())
        self.view = len(rows.slots) if in_order else None
        width = int(rows.counts.max())
        self.width = width
        padded = np.zeros(
            (len(rows.slots), width), np.int64
        )  # index into the N tokens; padding reads token 0
        inside = np.arange(width) < rows.counts[:, None]
        padded[inside] = np.arange(len(positions))
        mask = np.arange(self.length) <= np.where(inside, positions[padded], 0)[:, :, None]
        mask = np.repeat(mask[:, None], self.shape[1], axis=1).reshape(len(mask), 1, -1, self.length)
        self.mask = decoder._tensor(mask)
        ragged = not bool(inside.all())
        self.padded = decoder._tensor(padded.ravel()) if ragged else None
        self.inside = decoder._tensor(np.flatnonzero(inside)) if ragged else None

    def __call__(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        kv_heads, group, size = self.shape
        keys, values = keys[:, :, : self.length], values[:, :, : self.length]
        if self.view is not None:
            keys, values = keys[: self.view], values[: self.view]
        else:
            keys, values = keys.index_select(0, self.slots), values.index_select(0, self.slots)
        if self.padded is not None:
            q = q.index_select(0, self.padded)
        # query heads that share a key head become queries of one head
        q = q.view(-1, self.width, kv_heads, group, size).permute(0, 2, 3, 1, 4)
        q = q.reshape(-1, kv_heads, group * self.width, size)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=self.mask)
        out = out.view(-1, kv_heads, group, self.width, size).permute(0, 3, 1, 2, 4)
        out = out.reshape(-1, kv_heads * group * size)
        return out if self.inside is None else out.index_select(0, self.inside)


class _Layer:
    def __init__(self, layer: Any, fuse: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm = layer.input_layernorm.weight
        self.post_norm = layer.post_attention_layernorm.weight
        self.q_norm = attention.q_norm.weight if hasattr(attention, "q_norm") else None
        self.k_norm = attention.k_norm.weight if hasattr(attention, "k_norm") else None
        self.qkv = _Linear((attention.q_proj, attention.k_proj, attention.v_proj), fuse)
        self.gate_up = _Linear((mlp.gate_proj, mlp.up_proj), fuse)
        self.o = _Linear((attention.o_proj,), fuse)
        self.down = _Linear((mlp.down_proj,), fuse)


class _Linear:
    """Several projections of one input, side by side in the output."""

    def __init__(self, modules: tuple[Any, ...], fuse: bool) -> None:
        self.parts = [(module.weight, module.bias) for module in modules]
        if fuse and len(modules) > 1:
            bias = None if modules[0].bias is None else torch.cat([module.bias for module in modules])
            self.parts = [(torch.cat([module.weight for module in modules]), bias)]

    def __call__(self, x: Tensor) -> Tensor:
        if len(self.parts) == 1:
            return F.linear(x, *self.parts[0])
        return torch.cat([F.linear(x, weight, bias) for weight, bias in self.parts], dim=-1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


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
