"""Linear layers are called as modules, so that adapters, hooks and sharded weights count.

Several plain ones of one input become one matrix product, or products that write into one output.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Fused = tuple[Tensor, Tensor | None]  # weight, bias


def project(x: Tensor, *modules: Any) -> Tensor:
    """x [T, in] -> the outputs of `modules` side by side, [T, sum of out]."""
    if len(modules) == 1:
        out: Tensor = modules[0](x)
        return out
    if not all(map(is_plain, modules)):
        return torch.cat([module(x) for module in modules], dim=-1)
    weights, biases = [m.weight for m in modules], [m.bias for m in modules]
    if x.device.type == "cpu":  # weights are small beside activations; one product keeps its order of sums
        return F.linear(x, *side_by_side(weights, biases))
    products: Tensor = _Products.apply(x, len(modules), *weights, *biases)  # type: ignore[no-untyped-call]
    return products


def is_plain(module: Any, kind: type[nn.Module] = nn.Linear) -> bool:
    """A layer of that very kind with a whole weight of its own, that nothing wraps or watches."""
    return (
        type(module) is kind
        and type(module.weight) in (nn.Parameter, Tensor)
        and "forward" not in vars(module)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
    )


def side_by_side(weights: list[Tensor], biases: list[Tensor | None]) -> Fused:
    """One linear layer that computes what several do."""
    if all(bias is None for bias in biases):
        return torch.cat(weights), None
    given = [w.new_zeros(len(w)) if b is None else b for w, b in zip(weights, biases, strict=True)]
    return torch.cat(weights), torch.cat(given)


class _Products(torch.autograd.Function):
    """Products that write into the columns of one output: copies neither weights nor outputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int, *parameters: Tensor | None) -> Tensor:
        weights, biases = parameters[:count], parameters[count:]
        ctx.save_for_backward(x, *weights)
        ctx.sizes = [len(weight) for weight in weights if weight is not None]
        out = x.new_empty(len(x), sum(ctx.sizes))
        for columns, weight, bias in zip(torch.split(out, ctx.sizes, dim=1), weights, biases, strict=True):
            assert weight is not None
            if bias is None:
                torch.mm(x, weight.mT, out=columns)
            else:
                torch.addmm(bias, x, weight.mT, out=columns)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        needed = ctx.needs_input_grad
        parts = torch.split(dout, ctx.sizes, dim=1)
        dx = None
        if needed[0]:
            dx = parts[0] @ weights[0]
            for part, weight in zip(parts[1:], weights[1:], strict=True):
                dx.addmm_(part, weight)
        count = len(weights)
        dweights = [part.mT @ x if needed[2 + i] else None for i, part in enumerate(parts)]
        dbiases = [part.sum(0) if needed[2 + count + i] else None for i, part in enumerate(parts)]
        return dx, None, *dweights, *dbiases
