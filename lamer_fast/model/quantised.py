"""A frozen base in 8 or 4 bits, by bitsandbytes: held in few bits, multiplied as the values that these stand
for in the compute type. Activations are never quantised; embedding and head stay as they are.

int8: a row of a weight is 127 steps on either side of zero. nf4: a block of 64 values takes the 16 quantiles
of a normal distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 64  # values of one scale, nf4


class Quantised(nn.Module):
    """A linear layer whose weight is held in few bits. It takes inputs in any type and trains nothing.

    Args:
        dtype: of the values that the bits stand for, `weight`.
        device: where it is made, and is.
    """

    packed: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear, kind: str, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        functional = require_bitsandbytes(kind)
        self.kind, self.dtype = kind, dtype
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().to(dtype)
        if kind == "int8":  # its CUDA kernel takes float16 alone, which has not the range of bfloat16
            packed, scales, _ = functional.int8_vectorwise_quant(weight.float().cpu())
        else:
            flat = weight.to(device).flatten()  # its CPU kernel mixes up blocks that go on in the next row
            packed, state = functional.quantize_4bit(flat, blocksize=BLOCK, quant_type="nf4")
            scales = state.absmax
        self.register_buffer("packed", packed.to(device))
        self.register_buffer(
            "scales", scales.to(device).view(torch.uint8)
        )  # a cast of the module leaves bytes
        bias = None if linear.bias is None else linear.bias.detach().to(device, dtype)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """[out, in], made anew each time."""
        functional, scales = require_bitsandbytes(self.kind), self.scales.view(torch.float32)
        if self.kind == "int8":
            weight: Tensor = functional.int8_vectorwise_dequant(self.packed, scales).to(self.dtype)
            return weight
        count = torch.Size((self.out_features * self.in_features,))
        state = functional.QuantState(scales, count, blocksize=BLOCK, quant_type="nf4", dtype=self.dtype)
        values: Tensor = functional.dequantize_4bit(self.packed, state)
        return values.view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.kind}"


class _Product(torch.autograd.Function):
    """x @ weight.T; the weight's values are made for each pass and kept for none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Quantised) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, None]:
        return dout @ ctx.layer.weight.to(dout.dtype), None


def packed_bytes(kind: str, in_features: int, out_features: int) -> int:
    """What a weight of [out, in] takes."""
    values = in_features * out_features
    return values + 4 * out_features if kind == "int8" else -(-values // 2) + 4 * -(-values // BLOCK)


def require_bitsandbytes(kind: str) -> Any:
    try:
        from bitsandbytes import functional  # type: ignore[import-not-found]
    except ImportError:
        raise ValueError(
            f"model.base_format = {kind!r} needs bitsandbytes, which is not installed: "
            "pip install 'lamer-fast[bitsandbytes]'"
        ) from None
    return functional


def quantise_base(model: Any, kind: str, dtype: torch.dtype, device: torch.device) -> None:
    """Puts `Quantised` in the place of every linear layer but the head and adapters, one after another."""
    for name, linear in base_layers(model):
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Quantised(linear, kind, dtype, device))


def round_base(model: Any, kind: str, dtype: torch.dtype) -> None:
    """Gives the weights that `quantise_base` would take the values that their bits would stand for."""
    for _, linear in base_layers(model):
        linear.weight.data = Quantised(linear, kind, dtype, torch.device("cpu")).weight.to(linear.weight)


def base_layers(model: Any) -> list[tuple[str, nn.Linear]]:
    """What is quantised: every linear layer but the head and those of adapters, by name."""
    head, found = model.get_output_embeddings(), model.named_modules()
    return [(n, m) for n, m in found if type(m) is nn.Linear and m is not head and ".lora_" not in n]


def quantised_layers(model: nn.Module) -> list[Quantised]:
    return [module for module in model.modules() if isinstance(module, Quantised)]


def all_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """As `named_parameters`, and the weights of quantised layers as what their bits stand for, one by one."""
    for name, parameter in model.named_parameters():
        yield name, parameter.detach()
    for name, module in model.named_modules():
        if isinstance(module, Quantised):
            yield f"{name}.weight", module.weight


def num_weights(model: nn.Module) -> int:
    """Elements of all parameters, and of what quantised layers hold."""
    packed = sum(m.in_features * m.out_features for m in quantised_layers(model))
    return packed + sum(parameter.numel() for parameter in model.parameters())
