"""register_attention: Hugging Face full-attention models run packed sequences by varlen_attention."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._core.autocast import AUTOCAST_DEVICES
from ..tree import tree_attention
from .op import varlen_attention

UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias", "cache")


def register_attention(name: str = "lamer_varlen") -> str:
    """Registers the attention (and its mask) with transformers, and returns ``name``.

    Then ``AutoModelForCausalLM.from_pretrained(..., attn_implementation=name)`` or
    ``model.set_attn_implementation(name)``. The first of these that is given separates the sequences packed
    into one row:

    - ``cu_seqlens=[S+1], max_seqlen=``, or Hugging Face's ``cu_seq_lens_q=, cu_seq_lens_k=, max_length_q=,
      max_length_k=`` (queries and keys alike);
    - ``position_ids`` [B, N]: a sequence begins wherever they do not grow by one, in each row, as with sdpa.
      That synchronises with a GPU in each layer, which offsets do not.

    A prefix tree passes ``subtree_end`` [U], which decides what its tokens see, and its ``position_ids``, in
    one row.

    With an empty mask, ``attention_mask=torch.empty(1, 1, 0, 0)``, transformers does not look for sequences
    in ``position_ids`` by itself, which would synchronise once per pass. Offsets also work without this mask,
    but a tree needs it.

    With a key/value cache sdpa takes over, padding masks included, so ``model.generate()`` works. Under
    ``torch.autocast`` the attention runs in autocast's dtype, as sdpa does.

    The call raises ``ValueError`` for padding masks without a cache, masks that are not causal, sliding
    windows, attention softcaps and sinks, and dropout.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(name, _attention)
    AttentionMaskInterface.register(name, _mask)
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
    subtree_end: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """query: [B, Hq, N, D]; key, value: [B, Hkv, N, D] -> [B, N, Hq, D]."""
    batch, _, length, _ = query.shape
    if dropout:
        raise ValueError(f"packed attention has no dropout, got attention_dropout {dropout}")
    for unsupported in UNSUPPORTED:
        if options.get(unsupported) is not None:
            raise ValueError(f"packed attention has no {unsupported}, got {options[unsupported]}")
    if subtree_end is not None:
        cu_seqlens, max_seqlen = torch.tensor([0, length]), length
    else:
        cu_seqlens, max_seqlen = _given_offsets(module, cu_seqlens, max_seqlen, options)
    if cu_seqlens is not None and attention_mask is not None and attention_mask.numel() == 0:
        attention_mask = None
    if key.shape[2] != length or (attention_mask is not None and options.get("use_cache")):
        if cu_seqlens is not None:
            raise ValueError(
                f"packed sequences have no key/value cache: {length} queries, {key.shape[2]} keys; "
                "pass use_cache=False"
            )
        return _cached(module, query, key, value, attention_mask, scaling, options)
    if attention_mask is not None:
        shape = tuple(attention_mask.shape)
        raise ValueError(f"packed attention takes cu_seqlens or position_ids, got attention_mask {shape}")
    causal = getattr(module, "is_causal", True) if options.get("is_causal") is None else options["is_causal"]
    if cu_seqlens is None:
        if causal and "position_ids" not in options:
            raise ValueError("the model hands no position_ids to its attention: give cu_seqlens, max_seqlen")
        cu_seqlens, max_seqlen = _offsets_of(options, batch, length, query.device)
    elif batch != 1 or max_seqlen is None:
        raise ValueError(f"cu_seqlens needs one packed row and max_seqlen, got {batch} rows, {max_seqlen=}")
    if (kind := query.device.type) in AUTOCAST_DEVICES and torch.is_autocast_enabled(kind):
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    q, k, v = (x.transpose(1, 2).reshape(batch * length, *x.shape[1::2]) for x in (query, key, value))
    if subtree_end is None:
        out = varlen_attention(q, k, v, cu_seqlens, max_seqlen, causal, scale=scaling)
    elif causal:
        out = tree_attention(q, k, v, subtree_end, scale=scaling)
    else:
        raise ValueError("the tokens of a prefix tree see no later ones, got is_causal=False")
    return out.view(batch, length, *out.shape[1:]), None


def _given_offsets(
    module: nn.Module, cu_seqlens: Tensor | None, max_seqlen: int | None, options: dict[str, Any]
) -> tuple[Tensor | None, int | None]:
    """Offsets under our names or Hugging Face's, None where there are none."""
    queries, keys = options.get("cu_seq_lens_q"), options.get("cu_seq_lens_k")
    if queries is None and keys is None:
        return cu_seqlens, max_seqlen
    if cu_seqlens is not None:
        raise ValueError("give cu_seqlens or cu_seq_lens_q and cu_seq_lens_k, got both")
    # the layers of a model get the same tensors: the first one reads them
    is_first = getattr(module, "layer_idx", None) in (None, 0)
    if queries is not keys and (
        queries is None
        or keys is None
        or queries.shape != keys.shape
        or (is_first and not torch.equal(queries, keys))
    ):
        shown = tuple(None if x is None else x.tolist()[:16] for x in (queries, keys))
        raise ValueError(
            f"packed attention needs equal cu_seq_lens_q and cu_seq_lens_k, got {shown[0]} and {shown[1]}"
        )
    longest, other = options.get("max_length_q"), options.get("max_length_k")
    longest = other if longest is None else longest
    return queries, None if longest is None else int(longest)


def _offsets_of(options: dict[str, Any], batch: int, length: int, device: torch.device) -> tuple[Tensor, int]:
    """Of the rows, and within a row of wherever position_ids do not grow by one."""
    positions = options.get("position_ids")
    if positions is None:
        return torch.arange(batch + 1, dtype=torch.int32, device=device) * length, length
    if positions.dim() != 2 or positions.shape[1] != length:
        raise ValueError(
            f"position_ids must have shape ({batch}, {length}), got {tuple(positions.shape)}; "
            "give cu_seqlens and max_seqlen for others"
        )
    starts = F.pad(positions[:, 1:] != positions[:, :-1] + 1, (1, 0), value=True)
    starts = starts.expand(batch, length).flatten().nonzero()[:, 0]
    cu_seqlens = F.pad(starts, (0, 1), value=batch * length).to(torch.int32)
    return cu_seqlens, int(cu_seqlens.diff().max()) if length else 0


def _cached(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None,
    options: dict[str, Any],
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    out: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )
    return out


def _mask(
    *, attention_mask: Tensor | None = None, q_length: int, kv_length: int, **options: Any
) -> Tensor | None:
    """None where offsets say all, else sdpa's mask: _attention refuses it, or has a cache to use it with."""
    from transformers.masking_utils import sdpa_mask

    # values cannot be read while torch.compile traces
    padded = attention_mask is not None and (torch.compiler.is_compiling() or not bool(attention_mask.all()))
    if not padded and kv_length == q_length and not _is_special(q_length, **options):
        return None
    mask: Tensor | None = sdpa_mask(
        attention_mask=attention_mask, q_length=q_length, kv_length=kv_length, **options
    )
    return mask


def _is_special(
    length: int,
    batch_size: int,
    mask_function: Any,
    device: torch.device,
    local_size: int | None = None,
    use_vmap: bool = False,
    **options: Any,
) -> bool:
    """Local windows, a caller's own mask function, or in a causal model a token that sees the next one."""
    from transformers.masking_utils import causal_mask_function

    if use_vmap or (local_size is not None and length >= local_size):
        return True
    is_causal = "allow_is_bidirectional_skip" not in options
    if mask_function is causal_mask_function or not is_causal or torch.compiler.is_compiling():
        return False
    rows, tokens = torch.arange(batch_size, device=device)[:, None], torch.arange(length - 1, device=device)
    return bool(torch.as_tensor(mask_function(rows, 0, tokens, tokens + 1)).any())
