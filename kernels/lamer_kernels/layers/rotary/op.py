"""rotary: contract, checks and registration."""

from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from ..._core.checks import check_tensor, has_values
from ..._core.dispatch import Backend
from ..._core.eager import eager
from ..._core.namespace import qualified
from .._choose import DTYPES, choose, wants_gradient
from .reference import rotary_ref


def rotary(
    qkv: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    num_kv_heads: int,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 1e-6,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys of a projection, normed per head if asked, at their positions; and its values.

    Of each head the first 2 R numbers turn in pairs (d, d + R), as Llama's do; the rest stays as it is.

    Args:
        qkv: [T, Hq + 2 Hkv, D], query heads, key heads, value heads side by side.
        positions: [T] int64 or int32, rows of the tables.
        cos, sin: [P, R] float32, 0 <= 2 R <= D. R = 0 turns nothing.
        q_norm, k_norm: [D] in the dtype of ``qkv``: weights of an RMS norm of each head before it turns. Both
            or none.
        eps: of these norms.

    Returns:
        q [T, Hq, D], k [T, Hkv, D], v [T, Hkv, D], contiguous, in the dtype of ``qkv``. Gradients for ``qkv``
        and the weights; none for the tables.

    Raises:
        ValueError: shapes, dtypes or devices disagree; the message names both. Positions are not checked.
    """
    check(qkv, positions, cos, sin, num_kv_heads, q_norm, k_norm)
    resolved = choose(backend, qkv)
    norms = (q_norm, k_norm)
    if resolved == "reference":
        return rotary_ref(
            qkv, positions, cos, sin, num_kv_heads=num_kv_heads, q_norm=q_norm, k_norm=k_norm, eps=eps
        )
    fixed = [x.contiguous() for x in (qkv, positions.long(), cos, sin)]
    weights = [None if w is None else w.contiguous() for w in norms]
    if wants_gradient(qkv, *norms):
        run = rotary_eager if has_values(qkv) else rotary_op
        q, k, v, *_ = run(*fixed, num_kv_heads, *weights, eps, resolved)
    else:
        fixed[0] = fixed[0].detach()
        plain = [None if w is None else w.detach() for w in weights]
        q, k, v, _ = module(resolved).forward(*fixed, num_kv_heads, *plain, eps)
    return q, k, v


def check(
    qkv: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    num_kv_heads: int,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
) -> None:
    check_tensor("qkv", qkv, shape=(None, None, None), dtypes=DTYPES)
    T, heads, D = qkv.shape
    if not 0 < 2 * num_kv_heads < heads:
        raise ValueError(f"num_kv_heads = {num_kv_heads} leaves no query head of the {heads} heads of qkv")
    check_tensor("positions", positions, shape=(T,), dtypes=(torch.int64, torch.int32), like=qkv)
    check_tensor("cos", cos, shape=(None, None), dtypes=(torch.float32,), like=qkv)
    check_tensor("sin", sin, shape=tuple(cos.shape), dtypes=(torch.float32,), like=qkv)
    if 2 * cos.shape[1] > D:
        raise ValueError(f"cos has {cos.shape[1]} columns, a head of {D} numbers has only {D // 2} pairs")
    if (q_norm is None) != (k_norm is None):
        raise ValueError("q_norm and k_norm go together, got one of them")
    for name, weight in (("q_norm", q_norm), ("k_norm", k_norm)):
        if weight is not None:
            check_tensor(name, weight, shape=(D,), dtypes=(qkv.dtype,), like=qkv)


def module(backend: str) -> ModuleType:
    if backend == "cpu":
        from . import cpu

        return cpu
    from . import gpu

    return gpu


def _forward(
    qkv: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    num_kv_heads: int,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, and the factors of the norms [T, Hq + Hkv] float32 (empty without norms)."""
    found: tuple[Tensor, Tensor, Tensor, Tensor] = module(backend).forward(
        qkv, positions, cos, sin, num_kv_heads, q_norm, k_norm, eps
    )
    return found


def _gradient(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    qkv: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    factors: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """dqkv, and the gradients of the norms' weights [D] (empty without norms)."""
    dqkv, dq_norm, dk_norm = module(backend).backward(
        dq, dk, dv, qkv, positions, cos, sin, q_norm, k_norm, factors
    )
    return dqkv, dq_norm.to(qkv.dtype), dk_norm.to(qkv.dtype)


rotary_op = torch.library.custom_op(qualified("rotary"), _forward, mutates_args=())
rotary_backward_op = torch.library.custom_op(qualified("rotary_backward"), _gradient, mutates_args=())


@rotary_op.register_fake
def _(  # type: ignore[no-untyped-def]
    qkv, positions, cos, sin, num_kv_heads, q_norm, k_norm, eps, backend
):
    T, heads, D = qkv.shape
    num_heads = heads - 2 * num_kv_heads
    q, k, v = (qkv.new_empty(T, n, D) for n in (num_heads, num_kv_heads, num_kv_heads))
    rows = 0 if q_norm is None else T
    return q, k, v, qkv.new_empty(rows, num_heads + num_kv_heads, dtype=torch.float32)


@rotary_backward_op.register_fake
def _(  # type: ignore[no-untyped-def]
    dq, dk, dv, qkv, positions, cos, sin, q_norm, k_norm, factors, backend
):
    size = 0 if q_norm is None else qkv.shape[2]
    return qkv.new_empty(qkv.shape), qkv.new_empty(size), qkv.new_empty(size)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    qkv, positions, cos, sin, _, q_norm, k_norm, _, ctx.backend = inputs
    ctx.save_for_backward(qkv, positions, cos, sin, q_norm, k_norm, output[3])


def _backward(ctx, dq, dk, dv, _, gradient=rotary_backward_op):  # type: ignore[no-untyped-def]
    *saved, factors = ctx.saved_tensors
    upstream = (x.contiguous() for x in (dq, dk, dv))
    dqkv, dq_norm, dk_norm = gradient(*upstream, *saved, factors, ctx.backend)
    if saved[4] is None:
        dq_norm = dk_norm = None
    return dqkv, None, None, None, None, dq_norm, dk_norm, None, None


rotary_op.register_autograd(_backward, setup_context=_setup_context)
rotary_eager = eager(_forward, _setup_context, partial(_backward, gradient=_gradient), num_outputs=3)
