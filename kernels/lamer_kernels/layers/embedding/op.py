"""embedding: contract, checks and registration."""

from functools import partial

import torch
from torch import Tensor

from ..._core.checks import check_tensor, has_values
from ..._core.dispatch import Backend
from ..._core.eager import eager
from ..._core.namespace import qualified
from .._choose import DTYPES, choose, wants_gradient
from .reference import embedding_ref


def embedding(ids: Tensor, weight: Tensor, *, backend: Backend = "auto") -> Tensor:
    """``weight[ids]``; the gradient of a row that is read often is summed in float32 and rounded once.

    Args:
        ids: [...] int64, any layout, 0 <= ids < V; others raise IndexError on a CPU, assert on a GPU.
        weight: [V, H].

    Returns:
        [..., H] in the dtype of ``weight``.

    Raises:
        ValueError: shapes, dtypes or devices disagree; the message names both.
    """
    check_tensor("weight", weight, shape=(None, None), dtypes=DTYPES)
    check_tensor("ids", ids, shape=tuple(ids.shape), dtypes=(torch.int64,), like=weight)
    resolved = choose(backend, weight)
    if resolved == "reference":
        return embedding_ref(ids, weight)
    flat = ids.reshape(-1).contiguous()
    if wants_gradient(weight):
        out: Tensor = (embedding_eager if has_values(flat) else embedding_op)(flat, weight, resolved)
    else:
        out = weight.index_select(0, flat)
    return out.view(*ids.shape, weight.shape[1])


def _forward(ids: Tensor, weight: Tensor, backend: str) -> Tensor:
    return weight.index_select(0, ids)


def _gradient(dout: Tensor, ids: Tensor, num_rows: int, backend: str) -> Tensor:
    if backend == "cpu":
        from . import cpu as module
    else:
        from . import gpu as module  # type: ignore[no-redef]
    dweight: Tensor = module.backward(dout, ids, num_rows)
    return dweight


embedding_op = torch.library.custom_op(qualified("embedding"), _forward, mutates_args=())
embedding_backward_op = torch.library.custom_op(qualified("embedding_backward"), _gradient, mutates_args=())


@embedding_op.register_fake
def _(ids: Tensor, weight: Tensor, backend: str) -> Tensor:
    return weight.new_empty(ids.shape[0], weight.shape[1])


@embedding_backward_op.register_fake
def _(dout: Tensor, ids: Tensor, num_rows: int, backend: str) -> Tensor:
    return dout.new_empty(num_rows, dout.shape[1])


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ids, weight, ctx.backend = inputs
    ctx.num_rows = weight.shape[0]
    ctx.save_for_backward(ids)


def _backward(ctx, dout, gradient=embedding_backward_op):  # type: ignore[no-untyped-def]
    (ids,) = ctx.saved_tensors
    return None, gradient(dout.contiguous(), ids, ctx.num_rows, ctx.backend), None


embedding_op.register_autograd(_backward, setup_context=_setup_context)
embedding_eager = eager(_forward, _setup_context, partial(_backward, gradient=_gradient), num_outputs=1)
