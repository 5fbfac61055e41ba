"""Differentiable ops without the dispatcher, whose microseconds count at each layer of a small pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def eager(
    forward: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
    *,
    num_outputs: int,
) -> Callable[..., Any]:
    """What a custom op of these functions does to plain tensors that nothing traces: where `has_values`.

    Args:
        setup_context, backward: as `register_autograd` takes them.
        num_outputs: of forward's; the rest are saved for backward at most, which gets None for them.
    """

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = forward(*inputs)
            ctx.num_hidden = len(output) - num_outputs if isinstance(output, tuple) else 0
            setup_context(ctx, inputs, output)
            if not isinstance(output, tuple):
                return output
            return output[0] if num_outputs == 1 else output[:num_outputs]

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            return backward(ctx, *grads, *[None] * ctx.num_hidden)

    return Eager.apply
