"""Gradients that the forward pass has already computed, handed to autograd."""

import torch
from torch import Tensor

from ..._core.namespace import qualified
from ..projection import CACHED_ELEMENTS


@torch.library.custom_op(qualified("attach_gradients"), mutates_args=())
def attach_gradients(loss: Tensor, inputs: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """The scalar ``loss``; its gradient by ``inputs[i]`` is ``gradients[i]`` times the upstream one."""
    return loss.clone()


@attach_gradients.register_fake
def _(loss: Tensor, inputs: list[Tensor], gradients: list[Tensor]) -> Tensor:
    return torch.empty_like(loss)


def stored_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of the gradient of a ``dtype`` tensor until the upstream gradient is known, which a loss scaler makes
    large: float16 has no room for what comes before that."""
    return torch.float32 if dtype is torch.float16 else dtype


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    _, tensors, gradients = inputs
    ctx.save_for_backward(*gradients)
    ctx.dtypes = [x.dtype for x in tensors]


def _backward(ctx, upstream):  # type: ignore[no-untyped-def]
    # the usual upstream gradient is 1: no copy then. Not asked on a GPU (it would synchronise) or when traced
    is_one = type(upstream) is Tensor and upstream.device.type == "cpu" and bool(upstream == 1)
    pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
    gradients = [g.to(dtype) if is_one else _product(g, upstream, dtype) for g, dtype in pairs]
    return None, gradients, [None] * len(gradients)


def _product(gradient: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
    """gradient x upstream [], in the precision of the loss and rounded once."""
    if gradient.dtype is upstream.dtype or type(upstream) is not Tensor:
        return (gradient.to(upstream.dtype) * upstream).to(dtype)
    out = gradient.new_empty(gradient.shape, dtype=dtype)
    block = len(gradient)
    if gradient.device.type == "cpu":  # torch casts whole operands there: a block stays in the cache
        block = max(1, CACHED_ELEMENTS // max(1, gradient.shape[1:].numel()))
    for start in range(0, len(gradient), max(block, 1)):
        rows = slice(start, start + block)
        torch.mul(
            gradient[rows], upstream.view(1), out=out[rows]
        )  # the dtype of a 0-d factor would not count
    return out


attach_gradients.register_autograd(_backward, setup_context=_setup_context)
