# mypy: disable-error-code="no-untyped-call"
"""The trunk on a CPU: a packed forward pass of Qwen2, Qwen3 and Llama decoders over the Hugging Face module's
own parameters.

The parts between the matrix products are fused (`trunk_cpu.py`), rounding a bfloat16 once where the module
rounds several times; behind the last attention only positions that predict a target are computed.

Axis letters: T packed tokens, L loss tokens, H hidden, D head size.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lamer_fast.learn import trunk_cpu
from lamer_fast.learn.batch import Packed
from lamer_fast.samplers.local.decoder import check_supported
from lamer_kernels import varlen_attention
from lamer_kernels._core.numba_math import as_numpy


def make_trunk(model: Any) -> "Trunk | None":
    """None for what it does not compute: GPUs, other architectures and dtypes, dropout, checkpointing."""
    weight, config = model.get_input_embeddings().weight, model.config
    try:
        check_supported(config)
    except ValueError:
        return None
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.bfloat16):
        return None
    if getattr(config, "attention_dropout", 0.0) or model.is_gradient_checkpointing:
        return None
    return Trunk(model)


class Trunk:
    """Computes what `model.get_decoder()` does."""

    def __init__(self, model: nn.Module) -> None:
        self.decoder: Any = model.get_decoder()  # type: ignore[operator]
        self.rotary = Rotary(self.decoder.rotary_emb.inv_freq)
        self.eps = np.float32(model.config.rms_norm_eps)  # type: ignore[union-attr, arg-type]

    def __call__(self, packed: Packed) -> Tensor:
        """Last hidden states at the positions that predict a target, [L, H] in the parameters' dtype."""
        x, update = _Embedding.apply(packed.input_ids, self.decoder.embed_tokens.weight), None
        tables = self.rotary.tables(packed.max_seqlen, x.dtype)
        positions = packed.position_ids.numpy()
        last = self.decoder.layers[-1]
        for layer in self.decoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            x, normed = _add_norm(x, update, layer.input_layernorm.weight, self.eps)
            qkv = _linear(normed, attention.q_proj, attention.k_proj, attention.v_proj)
            qkv = qkv.view(len(qkv), -1, attention.head_dim)
            num_kv_heads = attention.k_proj.out_features // attention.head_dim
            num_heads = qkv.shape[1] - 2 * num_kv_heads
            weight = None
            if hasattr(attention, "q_norm"):
                q, k = attention.q_norm.weight, attention.k_norm.weight
                weight = torch.cat((q.expand(num_heads, -1), k.expand(num_kv_heads, -1)))
            qk, v = _Rotate.apply(qkv, weight, num_kv_heads, tables, positions, self.eps)
            q, k = qk.split((num_heads, num_kv_heads), dim=1)
            out = varlen_attention(q, k, v, packed.cu_seqlens, packed.max_seqlen, scale=attention.scaling)
            out = out.flatten(1)
            if layer is last:
                x, out = x[packed.token_idx], out[packed.token_idx]
            x, normed = _add_norm(
                x, _linear(out, attention.o_proj), layer.post_attention_layernorm.weight, self.eps
            )
            update = _linear(_Gate.apply(_linear(normed, mlp.gate_proj, mlp.up_proj)), mlp.down_proj)
        hidden: Tensor = _add_norm(x, update, self.decoder.norm.weight, self.eps)[1]
        return hidden


class Rotary:
    """Cosines and sines of the positions, rounded to the model's dtype as the module rounds them."""

    def __init__(self, inv_freq: Tensor) -> None:
        self.inv_freq = inv_freq.float().cpu()
        self.cos = self.sin = np.zeros((0, len(inv_freq)), np.float32)

    def tables(self, length: int, dtype: torch.dtype) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[>= length, D / 2] each."""
        if len(self.cos) < length:
            angles = torch.arange(2 * length)[:, None] * self.inv_freq
            self.cos, self.sin = (x.to(dtype).float().numpy() for x in (angles.cos(), angles.sin()))
        return self.cos, self.sin


def _linear(x: Tensor, *modules: Any) -> Tensor:
    """Projections of one input, side by side in the output."""
    if len(modules) == 1:
        return F.linear(x, modules[0].weight, modules[0].bias)
    bias = None if modules[0].bias is None else torch.cat([m.bias for m in modules])
    return F.linear(x, torch.cat([m.weight for m in modules]), bias)


class _Embedding(torch.autograd.Function):
    """Rows of the table; its gradient is summed in float32 and rounded once."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.dtype = weight.shape, weight.dtype
        return weight[ids]

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[None, Tensor]:
        (ids,) = ctx.saved_tensors
        total = torch.zeros(ctx.shape)
        trunk_cpu.add_rows(ids.numpy(), as_numpy(dout.contiguous()), total.numpy())
        return None, total.to(ctx.dtype)


def _add_norm(x: Tensor, update: Tensor | None, weight: Tensor, eps: np.float32) -> tuple[Tensor, Tensor]:
    """(x + update, its RMS norm times weight)."""
    pair: tuple[Tensor, Tensor] = _AddNorm.apply(x, update, weight, eps)
    return pair


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, update: Tensor | None, weight: Tensor, eps: np.float32
    ) -> tuple[Tensor, Tensor]:
        ctx.has_update = update is not None
        if update is not None:
            total = torch.empty_like(x)
            trunk_cpu.add(as_numpy(x), as_numpy(update), as_numpy(total))
        else:
            total = x.view_as(x)
        out, factors = torch.empty_like(x), torch.empty(len(x))
        trunk_cpu.norm(as_numpy(total), as_numpy(weight.detach()), eps, as_numpy(out), factors.numpy())
        ctx.save_for_backward(total, weight, factors)
        return total, out

    @staticmethod
    def backward(ctx: Any, dsum: Tensor, dout: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        x, weight, factors = ctx.saved_tensors
        dx, dweight = torch.empty_like(x), torch.zeros(weight.shape)
        trunk_cpu.norm_gradient(
            as_numpy(x), as_numpy(weight), factors.numpy(), as_numpy(dout.contiguous()),
            as_numpy(dsum.contiguous()), as_numpy(dx), dweight.numpy(),
        )  # fmt: skip
        return dx, dx if ctx.has_update else None, dweight.to(weight.dtype), None


class _Rotate(torch.autograd.Function):
    """qkv [T, heads, D] -> normed and rotated queries and keys, one tensor, and values."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        weight: Tensor | None,
        num_kv_heads: int,
        tables: Any,
        positions: Any,
        eps: np.float32,
    ) -> tuple[Tensor, Tensor]:
        qk = torch.empty_like(qkv[:, :-num_kv_heads])
        factors = torch.empty(qk.shape[:2] if weight is not None else (0, 0))
        given = qkv.new_empty(0, qkv.shape[-1]) if weight is None else weight.detach()
        trunk_cpu.rotate(
            as_numpy(qkv), as_numpy(given), *tables, positions, eps, as_numpy(qk), factors.numpy()
        )
        ctx.save_for_backward(qkv, given, factors)
        ctx.options = tables, positions
        return qk, qkv[:, -num_kv_heads:].contiguous()

    @staticmethod
    def backward(ctx: Any, dqk: Tensor, dv: Tensor) -> tuple[Any, ...]:
        qkv, weight, factors = ctx.saved_tensors
        tables, positions = ctx.options
        dqkv, dweight = torch.empty_like(qkv), torch.zeros(weight.shape)
        trunk_cpu.rotate_gradient(
            as_numpy(qkv), as_numpy(weight), *tables, positions, factors.numpy(),
            as_numpy(dqk.contiguous()), as_numpy(dqkv), dweight.numpy(),
        )  # fmt: skip
        dqkv[:, dqk.shape[1] :] = dv
        return dqkv, dweight.to(weight.dtype) if len(weight) else None, None, None, None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        trunk_cpu.gate(as_numpy(gate_up), as_numpy(out))
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        dgate_up = torch.empty_like(gate_up)
        trunk_cpu.gate_gradient(as_numpy(gate_up), as_numpy(dout.contiguous()), as_numpy(dgate_up))
        return dgate_up
