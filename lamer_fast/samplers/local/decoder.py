"""Forward pass of a Hugging Face decoder over its own weights, with a KV cache of fixed slots.

Plain functions over the model's tensors: a decode step of a small model on a CPU costs tens of microseconds
of Python per layer this way, a millisecond through the modules and a `DynamicCache`.

Axis letters: B rows, N tokens of one pass (row after row), H hidden, D head size, V vocabulary.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lamer_fast.samplers.local.backend import Backend, KVCache, Layer, Rows, Shape

ARCHITECTURES = ("llama", "qwen2", "qwen3")  # SmolLM2 is a llama
FUSE_BELOW_PARAMETERS = 100_000_000  # fused projections cost a copy of most weights


class Decoder:
    """Qwen2, Qwen3, Llama and SmolLM2 with full attention; anything else is refused by name.

    Args:
        max_tokens: positions that are made ready.
        num_ids: ids that may be sampled, 0..num_ids-1; the head's rows beyond are not read. None: all rows.
    """

    def __init__(self, model: Any, max_tokens: int, num_ids: int | None = None) -> None:
        config = model.config
        check_supported(config)
        self.model, self.num_ids = model, num_ids
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
        self._head = model.get_output_embeddings().weight.detach()[: self.num_ids]

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
        """[N, num_ids] float32."""
        return F.linear(hidden, self._head).float()


def make_backend(shape: Shape, cos: Tensor, sin: Tensor) -> Backend:
    """The numba kernels on a CPU, torch operations elsewhere and for what the kernels do not take."""
    if (
        cos.device.type == "cpu"
        and shape.head_size % 8 == 0
        and shape.dtype in (torch.float32, torch.bfloat16)
    ):
        from lamer_fast.samplers.local.backend_cpu import CpuBackend

        return CpuBackend(shape, cos, sin)
    from lamer_fast.samplers.local.backend_torch import TorchBackend

    return TorchBackend(shape, cos, sin)


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
