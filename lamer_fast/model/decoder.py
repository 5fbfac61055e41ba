"""The decoder: one forward pass over a Hugging Face model's own parameters, for sampler and trainer.

Between the matrix products lie the fused passes of `lamer_kernels.layers`. What differs between training on
packed sequences and sampling with a cache is an `Attention`: an object per pass.

Axis letters: T tokens of a pass, side by side, L of them wanted, H hidden, D head size, V vocabulary.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lamer_fast.model.architecture import Architecture
from lamer_fast.model.project import Fused, is_plain, project, side_by_side
from lamer_fast.model.rotary import RotaryTables
from lamer_kernels import tree_attention, varlen_attention
from lamer_kernels.layers import add_rms_norm, embedding, rms_norm, rotary, swiglu


class Attention(Protocol):
    """What a token of a pass sees."""

    positions: Tensor
    """[T] int64, of each token in its sequence."""
    length: int
    """More than the largest position."""
    wanted: Tensor | None
    """[L] int64: the tokens whose hidden states are asked for; None for all."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [T, heads, D], k, v [T, kv heads, D] -> [T, heads, D]."""
        ...


class PackedAttention:
    """Whole sequences side by side, each from position 0; differentiable."""

    def __init__(
        self, positions: Tensor, cu_seqlens: Tensor, max_seqlen: int, wanted: Tensor | None = None
    ) -> None:
        self.positions, self.length, self.wanted = positions, max_seqlen, wanted
        self._cu_seqlens = cu_seqlens

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return varlen_attention(q, k, v, self._cu_seqlens, self.length, scale=scale)


class TreeAttention:
    """Sequences whose common beginnings are held once, see `lamer_kernels.prefix_tree`; differentiable."""

    def __init__(
        self, positions: Tensor, subtree_end: Tensor, max_seqlen: int, wanted: Tensor | None = None
    ) -> None:
        self.positions, self.length, self.wanted = positions, max_seqlen, wanted
        self._subtree_end = subtree_end

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return tree_attention(q, k, v, self._subtree_end, scale=scale)


class Decoder:
    """Computes what `model.get_decoder()` does, for the families of `Architecture.of`.

    Layers checkpoint their activations where the model says so (`gradient_checkpointing_enable`).

    Args:
        model: a Hugging Face causal language model, perhaps with adapters in it. Parameters are read anew in
            every pass, save what `fuse` has copied.
        num_ids: ids that may be sampled, 0..num_ids-1; the head's rows beyond have no logits. None: all rows.
    """

    def __init__(self, model: Any, num_ids: int | None = None) -> None:
        self.model, self.num_ids = model, num_ids
        self.architecture = Architecture.of(model.config)
        self._trunk = model.get_decoder()
        self.blocks = [Block(layer, self.architecture, i) for i, layer in enumerate(self._trunk.layers)]
        self.rotary = RotaryTables(self._trunk.rotary_emb)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def last_norm(self) -> Tensor:
        """[H]"""
        weight: Tensor = self._trunk.norm.weight
        return weight

    def __call__(self, input_ids: Tensor, attention: Attention) -> Tensor:
        """input_ids [T] int64 -> last hidden states of the wanted tokens, [L, H] in the parameters' dtype."""
        x, update = self._embed(input_ids), None
        tables = self.rotary.get(attention.length, x.dtype, x.device)
        recompute = torch.is_grad_enabled() and self.model.is_gradient_checkpointing
        for block in self.blocks:
            cos, sin = tables[self.architecture.has_rope[block.index]]
            if recompute:
                x, update = checkpoint(
                    block, x, update, cos, sin, attention, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x, update = block(x, update, cos, sin, attention)
        assert update is not None  # a model has layers
        return add_rms_norm(x, update, self.last_norm, eps=self.architecture.eps)[1]

    def logits(self, hidden: Tensor) -> Tensor:
        """[L, H] -> [L, num_ids] float32."""
        head = self.model.get_output_embeddings()
        if self.num_ids is None or self.num_ids == head.out_features or not is_plain(head):
            return project(hidden, head)[:, : self.num_ids].float()
        return F.linear(hidden, head.weight[: self.num_ids]).float()

    @torch.no_grad()
    def fuse(self) -> None:
        """Copies plain projections of one input side by side, for passes without gradients.

        Costs a copy of most weights. Call it again when they have changed.
        """
        for block in self.blocks:
            block.fuse()

    def _embed(self, input_ids: Tensor) -> Tensor:
        table = self._trunk.embed_tokens
        if is_plain(table, nn.Embedding):
            return embedding(input_ids, table.weight)
        out: Tensor = table(input_ids)
        return out


class Block(nn.Module):
    """One layer. The unit to recompute and to shard: its parameters are read only while it is called."""

    def __init__(self, layer: Any, architecture: Architecture, index: int) -> None:
        super().__init__()
        self.layer, self.architecture, self.index = layer, architecture, index
        self._fused: dict[tuple[str, ...], Fused] = {}

    def forward(
        self, x: Tensor, update: Tensor | None, cos: Tensor, sin: Tensor, attention: Attention
    ) -> tuple[Tensor, Tensor]:
        """x [T, H], and what the layer before adds to it -> the same of this layer, [L, H] after the last."""
        a, layer = self.architecture, self.layer
        x, normed = _add_norm(x, update, layer.input_layernorm.weight, a.eps)
        attn, mlp = layer.self_attn, layer.mlp
        q, k, v = rotary(
            self._project(normed, attn, a.qkv).view(len(x), -1, a.head_size),
            attention.positions,
            cos,
            sin,
            num_kv_heads=a.num_kv_heads,
            q_norm=attn.q_norm.weight if a.has_head_norms else None,
            k_norm=attn.k_norm.weight if a.has_head_norms else None,
            eps=a.eps,
        )
        out = attention(self.index, q, k, v, a.scale).flatten(1)
        if self.index == a.num_layers - 1 and attention.wanted is not None:
            x, out = x[attention.wanted], out[attention.wanted]
        x, normed = _add_norm(x, project(out, attn.o_proj), layer.post_attention_layernorm.weight, a.eps)
        return x, project(swiglu(self._project(normed, mlp, a.gate_up)), mlp.down_proj)

    def _project(self, x: Tensor, parent: Any, names: tuple[str, ...]) -> Tensor:
        fused = None if torch.is_grad_enabled() else self._fused.get(names)
        if fused is not None:
            return F.linear(x, *fused)
        return project(x, *(getattr(parent, name) for name in names))

    def fuse(self) -> None:
        before, self._fused = self._fused, {}
        a, layer = self.architecture, self.layer
        for names, parent in ((a.qkv, layer.self_attn), (a.gate_up, layer.mlp)):
            modules = [getattr(parent, name) for name in names]
            if len(modules) > 1 and all(map(is_plain, modules)):
                new = side_by_side([m.weight for m in modules], [m.bias for m in modules])
                self._fused[names] = _in_place(before.get(names), new)


def _in_place(old: Fused | None, new: Fused) -> Fused:
    """`new`, where `old` stands if it fits there: a graph of a pass knows addresses."""
    if old is None or any((a is None) != (b is None) for a, b in zip(old, new, strict=True)):
        return new
    for a, b in zip(old, new, strict=True):
        if a is not None and b is not None:
            a.copy_(b)
    return old


def _add_norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(x + update, its RMS norm times weight)."""
    if update is None:
        return x, rms_norm(x, weight, eps=eps)
    return add_rms_norm(x, update, weight, eps=eps)
