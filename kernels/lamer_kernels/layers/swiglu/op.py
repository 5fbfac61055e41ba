"""swiglu: contract, checks and registration."""

from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from ..._core.checks import check_tensor, has_values
from ..._core.dispatch import Backend
from ..._core.eager import eager
from ..._core.namespace import qualified
from .._choose import DTYPES, choose, wants_gradient
from .reference import swiglu_ref


def swiglu(gate_up: Tensor, *, backend: Backend = "auto") -> Tensor:
    """``silu(gate) * up`` of the two halves of the last dimension, ``silu(x) = x / (1 + exp(-x))``.

    Args:
        gate_up: [..., 2 F], the gate in front, any layout.

    Returns:
        [..., F] in the dtype of ``gate_up``, float32 inside.

    Raises:
        ValueError: an odd last dimension, or a dtype that is no float.
    """
    check_tensor("gate_up", gate_up, shape=tuple(gate_up.shape), dtypes=DTYPES)
    if gate_up.dim() == 0 or gate_up.shape[-1] % 2:
        raise ValueError(f"gate_up must hold two halves in its last dimension, got {tuple(gate_up.shape)}")
    resolved = choose(backend, gate_up)
    if resolved == "reference":
        return swiglu_ref(gate_up)
    rows = gate_up.reshape(-1, gate_up.shape[-1]).contiguous()
    if wants_gradient(gate_up):
        out: Tensor = (swiglu_eager if has_values(rows) else swiglu_op)(rows, resolved)
    else:
        out = module(resolved).forward(rows.detach())
    return out if gate_up.dim() == 2 else out.view(*gate_up.shape[:-1], gate_up.shape[-1] // 2)


def module(backend: str) -> ModuleType:
    if backend == "cpu":
        from . import cpu

        return cpu
    from . import gpu

    return gpu


def _forward(gate_up: Tensor, backend: str) -> Tensor:
    out: Tensor = module(backend).forward(gate_up)
    return out


def _gradient(dout: Tensor, gate_up: Tensor, backend: str) -> Tensor:
    dgate_up: Tensor = module(backend).backward(dout, gate_up)
    return dgate_up


swiglu_op = torch.library.custom_op(qualified("swiglu"), _forward, mutates_args=())
swiglu_backward_op = torch.library.custom_op(qualified("swiglu_backward"), _gradient, mutates_args=())


@swiglu_op.register_fake
def _(gate_up: Tensor, backend: str) -> Tensor:
    return gate_up.new_empty(gate_up.shape[0], gate_up.shape[1] // 2)


@swiglu_backward_op.register_fake
def _(dout: Tensor, gate_up: Tensor, backend: str) -> Tensor:
    return gate_up.new_empty(gate_up.shape)


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    gate_up, ctx.backend = inputs
    ctx.save_for_backward(gate_up)


def _backward(ctx, dout, gradient=swiglu_backward_op):  # type: ignore[no-untyped-def]
    (gate_up,) = ctx.saved_tensors
    return gradient(dout.contiguous(), gate_up, ctx.backend), None


swiglu_op.register_autograd(_backward, setup_context=_setup_context)
swiglu_eager = eager(_forward, _setup_context, partial(_backward, gradient=_gradient), num_outputs=1)
