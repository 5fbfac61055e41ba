"""The attention functions behind varlen_attention, all with its arguments. Optional packages are imported on
use.

Built and tested: blocked and sdpa (CPU), torch (CUDA). flash_attn and xformers follow their documented
signatures and are untested until a record exists.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._dispatch import HAS_NUMBA, has_package


def choose(q: Tensor) -> str:
    if q.device.type == "cpu" and HAS_NUMBA and q.dtype in (torch.float32, torch.bfloat16):
        return "blocked"
    if not q.is_cuda or q.dtype.itemsize != 2:
        return "sdpa"
    return "flash_attn" if has_package("flash_attn") or has_package("flash_attn_interface") else "torch"


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int, causal: bool, scale: float | None
) -> Tensor:
    # enable_gqa takes a slow path on a CPU: expand k and v to q's heads instead
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    lengths = cu_seqlens.diff().tolist()
    # split, not slices: the gradient of a slice is a zero tensor of the full length each
    parts = zip(
        *(torch.split(x.transpose(0, 1).unsqueeze(0), lengths, dim=2) for x in (q, k, v)), strict=True
    )
    outs = [F.scaled_dot_product_attention(a, b, c, is_causal=causal, scale=scale) for a, b, c in parts]
    return torch.cat(outs, dim=2).squeeze(0).transpose(0, 1)


def _blocked(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int, causal: bool, scale: float | None
) -> Tensor:
    from .cpu import blocked

    return blocked(q, k, v, cu_seqlens, max_seqlen, causal, scale)


def _torch(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int, causal: bool, scale: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    accepted = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"scale": scale} if scale is not None else {}
    if "window_size" in accepted:
        options["window_size"] = (-1, 0) if causal else (-1, -1)
    else:
        options["is_causal"] = causal
    if q.shape[1] != k.shape[1]:
        if "enable_gqa" in accepted:
            options["enable_gqa"] = True
        else:
            repeats = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, **options)
    assert isinstance(out, Tensor)
    return out


def _flash_attn(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int, causal: bool, scale: float | None
) -> Tensor:
    if has_package("flash_attn_interface"):  # 3
        from flash_attn_interface import flash_attn_varlen_func  # type: ignore[import-not-found]
    else:
        try:  # 4
            from flash_attn.cute import flash_attn_varlen_func
        except ImportError:  # 2
            from flash_attn import flash_attn_varlen_func
    out = flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_k=cu_seqlens,
        max_seqlen_q=max_seqlen,
        max_seqlen_k=max_seqlen,
        softmax_scale=scale,
        causal=causal,
    )
    return out[0] if isinstance(out, tuple) else out  # type: ignore[no-any-return]


def _xformers(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_seqlen: int, causal: bool, scale: float | None
) -> Tensor:
    from xformers.ops import fmha

    bias = fmha.attn_bias.BlockDiagonalMask.from_seqlens(cu_seqlens.diff().tolist(), device=q.device)
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    bias = bias.make_causal() if causal else bias
    out = fmha.memory_efficient_attention(*(x.unsqueeze(0) for x in (q, k, v)), attn_bias=bias, scale=scale)
    return out.squeeze(0)  # type: ignore[no-any-return]


IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "blocked": _blocked,
    "sdpa": _sdpa,
    "torch": _torch,
    "flash_attn": _flash_attn,
    "xformers": _xformers,
}
