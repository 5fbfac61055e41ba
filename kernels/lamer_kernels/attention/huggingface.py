"""register_attention: Hugging Face full-attention models run packed sequences by varlen_attention."""

from typing import Any

import torch
from torch import Tensor, nn

from .op import varlen_attention


def register_attention(name: str = "lamer_varlen") -> str:
    """Registers the attention (and its empty mask) with transformers, and returns ``name``.

    Then ``AutoModelForCausalLM.from_pretrained(..., attn_implementation=name)`` or
    ``model.set_attn_implementation(name)``, and for sequences packed into one row::

        model(input_ids=ids[None], position_ids=positions[None], cu_seqlens=cu_seqlens, max_seqlen=max_seqlen,
              use_cache=False)

    Without ``cu_seqlens`` each row of the batch is one sequence. Raises ``ValueError`` at the call for what
    it would get wrong: padding masks, sliding windows, attention softcaps and sinks, dropout, a key/value
        cache.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(name, _attention)
    AttentionMaskInterface.register(name, _no_mask)
    return name


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """query: [B, Hq, N, D]; key, value: [B, Hkv, N, D] -> [B, N, Hq, D]."""
    batch, _, length, _ = query.shape
    if attention_mask is not None:
        raise ValueError(
            f"packed attention takes cu_seqlens, got attention_mask {tuple(attention_mask.shape)}"
        )
    if key.shape[2] != length:
        raise ValueError(f"packed attention has no key/value cache: {length} queries, {key.shape[2]} keys")
    if dropout:
        raise ValueError(f"packed attention has no dropout, got attention_dropout {dropout}")
    for unsupported in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if options.get(unsupported) is not None:
            raise ValueError(f"packed attention has no {unsupported}, got {options[unsupported]}")
    causal = getattr(module, "is_causal", True) if options.get("is_causal") is None else options["is_causal"]
    if cu_seqlens is None:
        cu_seqlens = torch.arange(0, (batch + 1) * length, length, dtype=torch.int32, device=query.device)
        max_seqlen = length
    elif batch != 1 or max_seqlen is None:
        raise ValueError(f"cu_seqlens needs one packed row and max_seqlen, got {batch} rows, {max_seqlen=}")
    q, k, v = (x.transpose(1, 2).reshape(batch * length, *x.shape[1::2]) for x in (query, key, value))
    out = varlen_attention(q, k, v, cu_seqlens, max_seqlen, causal, scale=scaling)
    return out.view(batch, length, *out.shape[1:]), None


def _no_mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> None:
    """cu_seqlens is the mask. A padding mask must not be lost in silence: its values are read."""
    if attention_mask is not None and not bool(attention_mask.all()):
        raise ValueError(
            f"packed attention takes cu_seqlens, got a padding mask {tuple(attention_mask.shape)}"
        )
