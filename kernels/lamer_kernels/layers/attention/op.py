"""varlen_attention: contract, checks and registration; one contract over the implementations of a machine."""

from types import ModuleType

import torch
from torch import Tensor

from ..._core.autocast import autocast_off
from ..._core.checks import check_choice, check_offsets, check_tensor
from ..._core.namespace import qualified
from .._choose import check_heads
from . import sdpa, vendors
from .choice import NAMES, check_can, choose
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
        q: [T, Hq, D]; k, v: [T, Hkv, D], Hq a multiple of Hkv. Float, one dtype, any strides; differentiable.
        cu_seqlens: [S+1] int32 or int64, from 0 to T; sequences may be empty. Its values are read and checked
            on a CPU, and by sdpa everywhere.
        max_seqlen: >= the longest sequence.
        scale: of the scores; None is D ** -0.5.
        implementation: "auto", or by name: "blocked" (CPU, float32 and bfloat16; numba), "sdpa" (sequence by
            sequence; any device and dtype), "torch" (``torch.nn.attention.varlen``), "flash_attn" (2),
            "flash_attn_3", "flash_attn_4", "xformers", "flex" (all CUDA, 16 bit), "reference". auto: what the
            tensors and the GPU allow, the table in ``choice.py``. On CUDA under
            ``torch.use_deterministic_algorithms(True)`` only what has a deterministic backward pass.
        validate: also check the values of cu_seqlens and max_seqlen on a GPU, which synchronises.

    Returns:
        [T, Hq, D] in q's dtype, computed in it whatever ``torch.autocast`` says.

    Raises:
        ValueError: shapes, dtypes, devices or values disagree; the message names both.
    """
    num_tokens, dim = check_heads(q, k, v)
    check_tensor("cu_seqlens", cu_seqlens, shape=(None,), dtypes=(torch.int32, torch.int64), like=q)
    if not cu_seqlens.shape[0]:
        raise ValueError(f"cu_seqlens must run from 0 to {num_tokens}, got no entry")
    check_choice("implementation", implementation, ("auto", "reference", *NAMES))
    if validate:
        _bounds(cu_seqlens, num_tokens, max_seqlen)
    deterministic = torch.are_deterministic_algorithms_enabled()
    name = implementation
    if name == "auto":
        compiling = torch.compiler.is_compiling()
        name = choose(q.device, q.dtype, dim, deterministic=deterministic, compiling=compiling)
    elif name != "reference":
        check_can(name, q.device, q.dtype, deterministic=deterministic)
    scale = dim**-0.5 if scale is None else scale
    if name == "reference":
        if q.device.type == "cpu":
            _bounds(cu_seqlens, num_tokens, max_seqlen)
        with autocast_off(q):
            return varlen_attention_ref(q, k, v, cu_seqlens, causal=causal, scale=scale)
    if name in OWN or num_tokens == 0:
        own = name if name in OWN else "sdpa"
        out: Tensor = _varlen_attention(q, k, v, cu_seqlens, max_seqlen, causal, scale, own)[0]
        return out
    with autocast_off(q):
        return vendors.attention(name, q, k, v, cu_seqlens, max_seqlen, causal, scale, deterministic)


OWN = ("blocked", "sdpa")  # computed here; the others bring their operators


@torch.library.custom_op(qualified("varlen_attention"), mutates_args=())
def _varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    causal: bool,
    scale: float,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    """out [T, Hq, D] and, of blocked, the log of the normaliser [Hkv, T * Hq / Hkv] float32."""
    bounds = _bounds(cu_seqlens, q.shape[0], max_seqlen)
    module = _module(implementation)
    with autocast_off(q):
        out: tuple[Tensor, Tensor] = module.forward(
            q.detach(), k.detach(), v.detach(), bounds, causal, float(scale)
        )
    return out


@_varlen_attention.register_fake
def _(q, k, v, cu_seqlens, max_seqlen, causal, scale, implementation):  # type: ignore[no-untyped-def]
    lse = (k.shape[1], q.shape[0] * (q.shape[1] // k.shape[1])) if implementation == "blocked" else (0,)
    return q.new_empty(q.shape), q.new_empty(lse, dtype=torch.float32)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    q, k, v, cu_seqlens, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, *output, cu_seqlens)
    ctx.set_materialize_grads(False)


def _backward(ctx, dout, _):  # type: ignore[no-untyped-def]
    if dout is None:
        return (None,) * 8
    return (*_varlen_attention_backward(dout, *ctx.saved_tensors, *ctx.options), *[None] * 5)


_varlen_attention.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op(qualified("varlen_attention_backward"), mutates_args=())
def _varlen_attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    causal: bool,
    scale: float,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    bounds = cu_seqlens.tolist()
    module = _module(implementation)
    with autocast_off(q):
        tensors = (x.detach() for x in (dout.contiguous(), q, k, v, out, lse))
        grads: tuple[Tensor, Tensor, Tensor] = module.backward(*tensors, bounds, causal, float(scale))
    return grads


@_varlen_attention_backward.register_fake
def _(dout, q, k, v, out, lse, cu_seqlens, max_seqlen, causal, scale, implementation):  # type: ignore[no-untyped-def]
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _module(implementation: str) -> ModuleType:
    if implementation == "sdpa":
        return sdpa
    from . import cpu

    return cpu


def _bounds(cu_seqlens: Tensor, num_tokens: int, max_seqlen: int) -> list[int]:
    offsets = cu_seqlens.cpu()
    check_offsets("cu_seqlens", offsets, num_tokens)
    longest = int(offsets.diff().max()) if len(offsets) > 1 else 0
    if longest > max_seqlen:
        raise ValueError(f"max_seqlen must be >= the longest sequence, {longest}, got {max_seqlen}")
    bounds: list[int] = offsets.tolist()
    return bounds
