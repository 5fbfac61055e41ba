"""Reference: every operation of a decoder in plain torch, in any float dtype, and as it would be if one thing
were different. Weights are cast operation by operation, so that no second model is held.

Axis letters: T tokens, H hidden, D head size, V vocabulary.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamer_fast.model.architecture import Architecture


@dataclass(frozen=True)
class Change:
    """What is computed in another way than the model says; all at None is the model."""

    eps: float | None = None
    skip_norm: bool = False
    bias: bool = True
    transposed: bool = False
    stale: str | None = None  # "norm", "linear" or "all": as before the last transfer
    base: bool = False  # without adapters
    inv_freq: Tensor | None = None  # [R] float64
    rope: bool | None = None
    interleaved: bool = False  # neighbours turn together, not halves
    shift: int = 0  # of all positions
    head_norms: bool = True
    scale: float = 1.0  # of the attention's scores, times the model's
    softcap: float | None = None
    window: int | None = None
    causal: bool = True
    kv_heads_in_turn: bool = False  # head h reads kv head h % kv heads
    kv_dtype: torch.dtype | None = None
    swapped: bool = False  # gate and up
    activation: str = "silu"
    embedding_scale: float = 1.0
    from_embedding: bool | None = None  # the head is the embedding's weight
    logit_scale: float = 1.0
    all_rows: bool = False  # padded ids have a share


AS_IT_IS = Change()


class Reference:
    """Of a Hugging Face causal language model that `Architecture` knows.

    Args:
        num_ids: ids that may be sampled; None: all rows of the head.
        previous: weights before the last transfer, by name.
    """

    def __init__(
        self,
        model: Any,
        temperature: float = 1.0,
        num_ids: int | None = None,
        previous: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model, self.temperature, self.num_ids, self.previous = model, temperature, num_ids, previous
        self.check(model.config)
        self.architecture = Architecture.of(model.config)
        self.trunk = model.get_decoder()
        self._names = {id(p): name for name, p in model.named_parameters()}

    @staticmethod
    def check(config: Any) -> None:
        """Raises ValueError where the reference does not compute a model of this configuration."""
        try:
            Architecture.of(config)
        except ValueError as error:
            raise ValueError(f"the audit has no reference for this model: {error}") from None

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @cached_property
    def inv_freq(self) -> Tensor:
        found: Tensor = self.trunk.rotary_emb.inv_freq.double()
        return found

    def embed(self, ids: Tensor, dtype: torch.dtype, change: Change = AS_IT_IS) -> Tensor:
        """[T] -> [T, H]"""
        table = self.model.get_input_embeddings()
        if change.stale is None and type(table) is not nn.Embedding:
            out: Tensor = table(ids)
            return out.to(dtype) * change.embedding_scale
        return self._weight(table.weight, change.stale is not None)[ids].to(dtype) * change.embedding_scale

    def qkv(
        self, i: int, x: Tensor, positions: Tensor, change: Change = AS_IT_IS
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The stream [T, H] -> q [T, heads, D], k, v [T, kv heads, D] as the attention gets them."""
        a, layer = self.architecture, self.trunk.layers[i]
        normed = self._norm(x, layer.input_layernorm.weight, change)
        y = torch.cat([self._linear(getattr(layer.self_attn, name), normed, change) for name in a.qkv], -1)
        heads = y.view(len(x), -1, a.head_size)
        q, k, v = torch.split(heads, [a.num_heads, a.num_kv_heads, a.num_kv_heads], dim=1)
        if a.has_head_norms and change.head_norms:
            q, k = (
                self._norm(z, norm.weight, change)
                for z, norm in ((q, layer.self_attn.q_norm), (k, layer.self_attn.k_norm))
            )
        if a.has_rope[i] if change.rope is None else change.rope:
            q, k = (self.turn(z, positions + change.shift, change) for z in (q, k))
        return q, k, v

    def turn(self, x: Tensor, positions: Tensor, change: Change = AS_IT_IS, *, back: bool = False) -> Tensor:
        inv_freq = self.inv_freq if change.inv_freq is None else change.inv_freq
        wide = torch.promote_types(x.dtype, torch.float32)  # angles of far tokens feel float32 too
        angles = positions.to(wide)[:, None, None] * inv_freq.to(wide)
        scaling = self.trunk.rotary_emb.attention_scaling
        cos, sin = ((f * scaling).to(x.dtype) for f in (angles.cos(), angles.sin() * (-1 if back else 1)))
        width = 2 * len(inv_freq)
        turning, rest = x[..., :width], x[..., width:]
        if change.interleaved:
            a, b = turning[..., ::2], turning[..., 1::2]
            turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
        else:
            a, b = turning.chunk(2, dim=-1)
            turned = torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
        return torch.cat((turned, rest), -1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, change: Change = AS_IT_IS) -> Tensor:
        """Every token sees itself and those before it -> [T, heads * D]."""
        a, n = self.architecture, len(q)
        if change.kv_dtype is not None:
            k, v = (z.to(change.kv_dtype).to(q.dtype) for z in (k, v))
        group = a.num_heads // a.num_kv_heads
        if change.kv_heads_in_turn:
            k, v = (z.repeat(1, group, 1) for z in (k, v))
        else:
            k, v = (z.repeat_interleave(group, 1) for z in (k, v))
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = torch.einsum("thd,shd->hts", q, k).to(wide) * (a.scale * change.scale)
        if change.softcap is not None:
            scores = change.softcap * torch.tanh(scores / change.softcap)
        distance = torch.arange(n, device=q.device)[:, None] - torch.arange(n, device=q.device)
        seen = distance >= 0 if change.causal else torch.ones_like(distance, dtype=torch.bool)
        if change.window is not None:
            seen = seen & (distance < change.window)
        shares = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(q.dtype)
        return torch.einsum("hts,shd->thd", shares, v).flatten(1)

    def out(self, i: int, attended: Tensor, change: Change = AS_IT_IS) -> Tensor:
        return self._linear(self.trunk.layers[i].self_attn.o_proj, attended, change)

    def inner(self, i: int, x: Tensor, change: Change = AS_IT_IS) -> Tensor:
        """The stream after attention [T, H] -> what `down_proj` gets."""
        layer = self.trunk.layers[i]
        normed = self._norm(x, layer.post_attention_layernorm.weight, change)
        names = self.architecture.gate_up
        y = torch.cat([self._linear(getattr(layer.mlp, name), normed, change) for name in names], dim=-1)
        gate, up = y.chunk(2, dim=-1)
        gate, up = (up, gate) if change.swapped else (gate, up)
        activated: Tensor = getattr(F, change.activation)(gate)
        return activated * up

    def down(self, i: int, inner: Tensor, change: Change = AS_IT_IS) -> Tensor:
        return self._linear(self.trunk.layers[i].mlp.down_proj, inner, change)

    def logits(self, x: Tensor, change: Change = AS_IT_IS) -> Tensor:
        """The last stream [L, H] -> [L, V] after temperature, in float32 or wider."""
        normed = self._norm(x, self.trunk.norm.weight, change)
        head = self.model.get_output_embeddings()
        weight = self.model.get_input_embeddings().weight if change.from_embedding else head.weight
        rows = None if change.all_rows else self.num_ids
        weight = self._weight(weight, change.stale in ("linear", "all"))[:rows].to(x.dtype)
        out = F.linear(normed, weight).to(torch.promote_types(x.dtype, torch.float32))
        if change.softcap is not None:
            out = change.softcap * torch.tanh(out / change.softcap)
        return out * (change.logit_scale / self.temperature)

    def stream(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """The last stream of a whole sequence, [T, H]."""
        positions = torch.arange(len(ids), device=ids.device)
        x = self.embed(ids, dtype)
        for i in range(self.architecture.num_layers):
            x = x + self.out(i, self.attend(*self.qkv(i, x, positions)))
            x = x + self.down(i, self.inner(i, x))
        return x

    def _norm(self, x: Tensor, weight: Tensor, change: Change) -> Tensor:
        if change.skip_norm:
            return x
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        eps = self.architecture.eps if change.eps is None else change.eps
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        return self._weight(weight, change.stale in ("norm", "all")).to(x.dtype) * normed.to(x.dtype)

    def _linear(self, module: Any, x: Tensor, change: Change) -> Tensor:
        if change.base:
            module = getattr(module, "base_layer", module)
        if type(module) is not nn.Linear:
            out: Tensor = copy.deepcopy(module).to(x.dtype)(x)
            return out
        stale = change.stale in ("linear", "all")
        weight = self._weight(module.weight, stale).to(x.dtype)
        if change.transposed and weight.shape[0] == weight.shape[1]:
            weight = weight.mT
        bias = None
        if module.bias is not None and change.bias:
            bias = self._weight(module.bias, stale).to(x.dtype)
        return F.linear(x, weight, bias)

    def _weight(self, weight: Tensor, stale: bool) -> Tensor:
        name = self._names.get(id(weight))
        if stale and self.previous is not None and name is not None and name in self.previous:
            return self.previous[name].to(weight.device)
        return weight.detach()
