"""cached_attention: contract, checks and registration."""

from types import ModuleType

import torch
from torch import Tensor

from ..._core.checks import check_tensor
from ..._core.dispatch import Backend
from ..._core.namespace import qualified
from .._choose import DTYPES, choose, wants_gradient
from .reference import BLOCK, cached_attention_ref


def cached_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    positions: Tensor,
    cu_seqlens: Tensor,
    *,
    scale: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Puts new keys and values into the cache, and attends each new token to its slot up to its own position.

    The N new tokens are B rows side by side, one per slot: a decoding row has one token, a chunk of a prompt
    several, at consecutive positions that follow what the slot holds.

    Args:
        q: [N, Hq, D]; k, v: [N, Hkv, D], Hq a multiple of Hkv.
        keys, values: of `new_slots`, in q's dtype; changed in place.
        slots, positions: [N] int64, of each token. Not checked. Rows of slot -1 are padding, which gives a
            pass a fixed size: they store nothing, and their output is 0.
        cu_seqlens: [B+1] int64, where the rows begin and end. Not checked.
        scale: of the scores; None is D ** -0.5.

    Returns:
        [N, Hq, D] in q's dtype, float32 inside. No gradients.

    Raises:
        ValueError: shapes, dtypes or devices disagree, or a tensor requires a gradient; the message names it.
    """
    check(q, k, v, keys, values, slots, positions, cu_seqlens)
    if wants_gradient(q, k, v):
        raise ValueError("cached_attention has no gradient: call it under torch.no_grad()")
    resolved = choose(backend, q)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if resolved == "reference":
        return cached_attention_ref(q, k, v, keys, values, slots, positions, cu_seqlens, scale=scale)
    new = [x.detach().contiguous() for x in (q, k, v)]
    rest = (keys, values, slots, positions, cu_seqlens, scale)
    out: Tensor
    if torch.compiler.is_compiling():
        out = cached_attention_op(*new, *rest, resolved)
    else:
        out = module(resolved).forward(*new, *rest)
    return out


def check(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor,
    cu_seqlens: Tensor,
) -> None:  # fmt: skip
    check_tensor("q", q, shape=(None, None, None), dtypes=DTYPES)
    N, heads, D = q.shape
    check_tensor("k", k, shape=(N, None, D), dtypes=(q.dtype,), like=q)
    check_tensor("v", v, shape=tuple(k.shape), dtypes=(q.dtype,), like=q)
    H = k.shape[1]
    if not H or heads % H:
        raise ValueError(f"heads of q must be a multiple of those of k, got {heads} and {H}")
    check_tensor("keys", keys, shape=(None, H, None, D, BLOCK), dtypes=(q.dtype,), like=q)
    size = (keys.shape[0], H, keys.shape[2] * BLOCK, D)
    check_tensor("values", values, shape=size, dtypes=(q.dtype,), like=q)
    if not (keys.is_contiguous() and values.is_contiguous()):
        raise ValueError(
            "keys and values must be contiguous, as new_slots makes them: they are written in place"
        )
    check_tensor("slots", slots, shape=(N,), dtypes=(torch.int64,), like=q)
    check_tensor("positions", positions, shape=(N,), dtypes=(torch.int64,), like=q)
    check_tensor("cu_seqlens", cu_seqlens, shape=(None,), dtypes=(torch.int64,), like=q)


def module(backend: str) -> ModuleType:
    if backend == "cpu":
        from . import cpu

        return cpu
    from . import gpu

    return gpu


@torch.library.custom_op(qualified("cached_attention"), mutates_args=("keys", "values"))
def cached_attention_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    positions: Tensor,
    cu_seqlens: Tensor,
    scale: float,
    backend: str,
) -> Tensor:
    out: Tensor = module(backend).forward(q, k, v, keys, values, slots, positions, cu_seqlens, scale)
    return out


@cached_attention_op.register_fake
def _(q, k, v, keys, values, slots, positions, cu_seqlens, scale, backend):  # type: ignore[no-untyped-def]
    return q.new_empty(q.shape)
