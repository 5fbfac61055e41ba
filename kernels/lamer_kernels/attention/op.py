"""varlen_attention: one contract over the implementations that a machine has."""

import torch
from torch import Tensor

from .._checks import check_choice, check_offsets, check_tensor
from .._head import HEAD_DTYPES
from .implementations import IMPLEMENTATIONS, choose
from .reference import varlen_attention_ref


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    causal: bool = True,
    *,
    scale: float | None = None,
    implementation: str = "auto",
    validate: bool = False,
) -> Tensor:
    """Attention within each of S packed sequences; no token sees another sequence.

    Args:
        q: [T, Hq, D]; k, v: [T, Hkv, D], Hq a multiple of Hkv. Float, one dtype; differentiable.
        cu_seqlens: [S+1] int32, from 0 to T. On a CPU tensor its values are read.
        max_seqlen: >= the longest sequence.
        scale: of the scores; None is D ** -0.5.
        implementation: "auto", or by name: "blocked" (CPU, float32 and bfloat16; numba), "sdpa" (per
            sequence; any device and dtype), "torch" (``torch.nn.attention.varlen``; CUDA, 16 bit),
            "flash_attn" (2, 3 or 4, whichever is installed; CUDA, 16 bit), "xformers" (CUDA, 16 bit),
            "reference". auto: the first that can, of blocked and sdpa on a CPU and for fp32, else of
            flash_attn and torch.
        validate: also check the values of cu_seqlens and max_seqlen, which synchronises with a GPU.

    Returns:
        [T, Hq, D] in q's dtype.

    Raises:
        ValueError: shapes, dtypes, devices or (validate) values disagree; the message names both.
    """
    check_tensor("q", q, shape=(None, None, None), dtypes=HEAD_DTYPES)
    num_tokens, num_heads, dim = q.shape
    check_tensor("k", k, shape=(num_tokens, None, dim), dtypes=(q.dtype,), like=q)
    check_tensor("v", v, shape=tuple(k.shape), dtypes=(q.dtype,), like=q)
    if num_heads % k.shape[1]:
        raise ValueError(f"heads of q must be a multiple of those of k, got {num_heads} and {k.shape[1]}")
    check_tensor("cu_seqlens", cu_seqlens, shape=(None,), dtypes=(torch.int32,), like=q)
    check_choice("implementation", implementation, ("auto", "reference", *IMPLEMENTATIONS))
    if validate:
        check_offsets("cu_seqlens", cu_seqlens, num_tokens)
        longest = int(cu_seqlens.diff().max()) if cu_seqlens.shape[0] > 1 else 0
        if longest > max_seqlen:
            raise ValueError(f"max_seqlen must be >= the longest sequence, {longest}, got {max_seqlen}")
    if num_tokens == 0:
        return torch.zeros_like(q)
    if implementation == "reference":
        return varlen_attention_ref(q, k, v, cu_seqlens, causal=causal, scale=scale)
    name = choose(q) if implementation == "auto" else implementation
    return IMPLEMENTATIONS[name](q, k, v, cu_seqlens, max_seqlen, causal, scale)
