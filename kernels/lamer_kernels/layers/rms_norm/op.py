"""rms_norm, add_rms_norm: contracts, checks and registration."""

from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from ..._core.checks import check_tensor, has_values
from ..._core.dispatch import Backend
from ..._core.eager import eager
from ..._core.namespace import qualified
from .._choose import DTYPES, choose, wants_gradient
from .reference import add_rms_norm_ref, rms_norm_ref


def rms_norm(x: Tensor, weight: Tensor, *, eps: float, backend: Backend = "auto") -> Tensor:
    """``x * weight / sqrt(mean(x^2) + eps)`` over the last dimension.

    Arithmetic is float32 (float64 for float64), rounded once. Modules that round the normed row before they
    multiply by ``weight`` round twice: in 16 bits the results differ in the last place.

    Args:
        x: [..., H], any layout.
        weight: [H] in the dtype of ``x``.

    Returns:
        [..., H] in the dtype of ``x``. Gradients for ``x`` and ``weight``, the latter summed in float32.

    Raises:
        ValueError: shapes, dtypes or devices disagree; the message names both.
    """
    check(x, None, weight)
    resolved = choose(backend, x)
    if resolved == "reference":
        return rms_norm_ref(x, weight, eps=eps)
    rows, scale = x.reshape(-1, x.shape[-1]).contiguous(), weight.contiguous()
    if wants_gradient(x, weight):
        out: Tensor = (
            norm_eager(rows, scale, eps, resolved)
            if has_values(rows)
            else norm_op(rows, scale, eps, resolved)[0]
        )
    else:
        out = module(resolved).forward(rows.detach(), None, scale.detach(), eps)[1]
    return out if x.dim() == 2 else out.view(x.shape)


def add_rms_norm(
    x: Tensor, update: Tensor, weight: Tensor, *, eps: float, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """``(x + update, rms_norm(x + update))``: the residual stream and what the next layer reads, in one pass.

    Args:
        x, update: [..., H] of one dtype, any layout. The sum is rounded to it before it is normed.
        weight, eps: as in `rms_norm`.

    Returns:
        Both [..., H]. Gradients flow through both.
    """
    check(x, update, weight)
    resolved = choose(backend, x)
    if resolved == "reference":
        return add_rms_norm_ref(x, update, weight, eps=eps)
    rows, more = (t.reshape(-1, x.shape[-1]).contiguous() for t in (x, update))
    scale = weight.contiguous()
    if wants_gradient(x, update, weight):
        total, out, *_ = (add_norm_eager if has_values(rows) else add_norm_op)(
            rows, more, scale, eps, resolved
        )
    else:
        total, out, _ = module(resolved).forward(rows.detach(), more.detach(), scale.detach(), eps)
    return (total, out) if x.dim() == 2 else (total.view(x.shape), out.view(x.shape))


def check(x: Tensor, update: Tensor | None, weight: Tensor) -> None:
    check_tensor("x", x, shape=tuple(x.shape), dtypes=DTYPES)
    if x.dim() == 0:
        raise ValueError("x must have a last dimension to norm over, got a 0-d tensor")
    check_tensor("weight", weight, shape=(x.shape[-1],), dtypes=(x.dtype,), like=x)
    if update is not None:
        check_tensor("update", update, shape=tuple(x.shape), dtypes=(x.dtype,), like=x)


def module(backend: str) -> ModuleType:
    if backend == "cpu":
        from . import cpu

        return cpu
    from . import gpu

    return gpu


def _norm(x: Tensor, weight: Tensor, eps: float, backend: str) -> tuple[Tensor, Tensor]:
    """out [T, H], factors [T] float32."""
    _, out, factors = module(backend).forward(x, None, weight, eps)
    return out, factors


def _add_norm(
    x: Tensor, update: Tensor, weight: Tensor, eps: float, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """total, out [T, H], factors [T] float32."""
    found: tuple[Tensor, Tensor, Tensor] = module(backend).forward(x, update, weight, eps)
    return found


def _gradient(
    dout: Tensor, dtotal: Tensor | None, total: Tensor, weight: Tensor, factors: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """dx [T, H], dweight [H]."""
    dx, dweight = module(backend).backward(dout, dtotal, total, weight, factors)
    return dx, dweight.to(weight.dtype)


norm_op = torch.library.custom_op(qualified("rms_norm"), _norm, mutates_args=())
add_norm_op = torch.library.custom_op(qualified("add_rms_norm"), _add_norm, mutates_args=())
norm_backward_op = torch.library.custom_op(qualified("rms_norm_backward"), _gradient, mutates_args=())


@norm_op.register_fake
def _(x: Tensor, weight: Tensor, eps: float, backend: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[:1], dtype=torch.float32)


@add_norm_op.register_fake
def _(x: Tensor, update: Tensor, weight: Tensor, eps: float, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape), x.new_empty(x.shape[:1], dtype=torch.float32)


@norm_backward_op.register_fake
def _(
    dout: Tensor, dtotal: Tensor | None, total: Tensor, weight: Tensor, factors: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    return total.new_empty(total.shape), weight.new_empty(weight.shape)


def _setup_norm(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, weight, _, ctx.backend = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.set_materialize_grads(False)


def _norm_backward(ctx, dout, _, gradient=norm_backward_op):  # type: ignore[no-untyped-def]
    if dout is None:
        return None, None, None, None
    x, weight, factors = ctx.saved_tensors
    dx, dweight = gradient(dout.contiguous(), None, x, weight, factors, ctx.backend)
    return dx, dweight, None, None


def _setup_add_norm(ctx, inputs, output):  # type: ignore[no-untyped-def]
    _, _, weight, _, ctx.backend = inputs
    total, _, factors = output
    ctx.save_for_backward(total, weight, factors)
    ctx.set_materialize_grads(False)


def _add_norm_backward(ctx, dtotal, dout, _, gradient=norm_backward_op):  # type: ignore[no-untyped-def]
    if dout is None:
        return dtotal, dtotal, None, None, None
    total, weight, factors = ctx.saved_tensors
    dtotal = None if dtotal is None else dtotal.contiguous()
    dx, dweight = gradient(dout.contiguous(), dtotal, total, weight, factors, ctx.backend)
    return dx, dx, dweight, None, None


norm_op.register_autograd(_norm_backward, setup_context=_setup_norm)
add_norm_op.register_autograd(_add_norm_backward, setup_context=_setup_add_norm)
norm_eager = eager(_norm, _setup_norm, partial(_norm_backward, gradient=_gradient), num_outputs=1)
add_norm_eager = eager(
    _add_norm, _setup_add_norm, partial(_add_norm_backward, gradient=_gradient), num_outputs=2
)
