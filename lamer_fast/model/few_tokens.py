"""Passes of few tokens over a cache on a CPU: of a small model most of their time is calls, op by op."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lamer_fast.model.cache import CachedAttention
from lamer_fast.model.decoder import Decoder
from lamer_fast.model.project import Fused, is_plain, side_by_side
from lamer_fast.model.quantised import num_weights
from lamer_kernels.layers import BlockWeights, block_weights, cached_blocks

MAX_TOKENS = 256  # of a pass: from there on products take longer than calls
MAX_PARAMETERS = 10_000_000  # and with more of them, for any tokens


class FewTokens:
    """Computes what `decoder` does, with one call a layer and from copies of its weights.

    A token's hidden state depends on no other pass that it could be in, but in 16 bits it may differ in the
    last place from that of `decoder`, whose products are summed in another order.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._layers: list[BlockWeights] = []  # empty: of a kind that is not taken

    @torch.no_grad()
    def refresh(self) -> None:
        """Copies the weights. Call it again when they have changed."""
        model, self._layers = self._decoder.model, []
        if num_weights(model) > MAX_PARAMETERS or not is_plain(model.get_input_embeddings(), nn.Embedding):
            return
        layers = [self._weights(block.layer) for block in self._decoder.blocks]
        self._layers = [layer for layer in layers if layer is not None] if all(layers) else []

    def takes(self, attention: CachedAttention) -> bool:
        few = len(attention.token_ids) <= MAX_TOKENS
        return few and bool(self._layers) and type(attention) is CachedAttention

    def __call__(self, attention: CachedAttention) -> Tensor:
        """The last hidden states of the wanted tokens, [L, H]."""
        decoder, a = self._decoder, self._decoder.architecture
        x = F.embedding(attention.token_ids, decoder.model.get_input_embeddings().weight)
        tables = decoder.rotary.get(attention.length, x.dtype, x.device)
        layers = [
            (weights, *tables[has_rope], *cache)
            for weights, has_rope, cache in zip(self._layers, a.has_rope, attention.cache.layers, strict=True)
        ]
        hidden = cached_blocks(
            x, layers, attention.slots, attention.positions, decoder.last_norm, num_heads=a.num_heads,
            num_kv_heads=a.num_kv_heads, scale=a.scale, eps=a.eps,
        )  # fmt: skip
        return hidden if attention.wanted is None else hidden[attention.wanted]

    def _weights(self, layer: Any) -> BlockWeights | None:
        a, attn, mlp = self._decoder.architecture, layer.self_attn, layer.mlp
        parts = [[getattr(attn, name) for name in a.qkv], [attn.o_proj]]
        parts += [[getattr(mlp, name) for name in a.gate_up], [mlp.down_proj]]
        if not all(is_plain(module) for part in parts for module in part):
            return None
        qkv, out, gate_up, down = map(_side_by_side, parts)
        q_norm, k_norm = (attn.q_norm.weight, attn.k_norm.weight) if a.has_head_norms else (None, None)
        first, second = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        return block_weights(first, qkv, q_norm, k_norm, out, second, gate_up, down)


def _side_by_side(modules: list[nn.Linear]) -> Fused:
    return side_by_side([m.weight for m in modules], [m.bias for m in modules])
