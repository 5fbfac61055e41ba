"""How near the memory's rate are rms_norm, rotary and swiglu, against plain and compiled PyTorch?

Forward and backward in bf16 at the shapes of Qwen3. A rate counts the bytes that the pass must read and write
once: tensors in and out, gradients in and out. On a CPU smaller shapes, float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..layers import add_rms_norm, rotary, swiglu
from ..layers.rms_norm import add_rms_norm_ref
from ..layers.rotary import rotary_ref
from ..layers.swiglu import swiglu_ref
from .harness import Case, Row, compare
from .peers import Peer, present
from .roofline import measure
from .shapes import SHAPES, Shape

Tensors = tuple[Tensor, ...]
Op = Callable[..., Tensor | Tensors]


class Inputs:
    """Random tensors of one case: bf16 on a GPU, float32 on a CPU."""

    def __init__(self, case: Case, shape: Shape) -> None:
        self.device, self.shape, self.tokens = torch.device(case.device), shape, case.T
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def randn(self, *shape: int) -> Tensor:
        g = torch.Generator().manual_seed(len(shape))
        return torch.randn(shape, generator=g).to(self.device, self.dtype).requires_grad_()


def cases(device: str, shape: str | None = None, sizes: tuple[int, ...] = ()) -> list[Case]:
    """Of two Qwen3 on a GPU, of a tiny model on a CPU; sizes are tokens."""
    gpu = device.startswith("cuda")
    models = [shape] if shape else ["Qwen3-0.6B", "Qwen3-4B"] if gpu else ["25 M"]
    tokens = sizes or (16_384 if gpu else 1024,)
    return [Case(op=op, model=model, T=T) for model in models for op in OPS for T in tokens]


def norm_case(inputs: Inputs) -> tuple[Op, Op, list[Tensor], int]:
    T, hidden = inputs.tokens, inputs.shape.hidden
    randn = inputs.randn
    tensors = [randn(T, hidden), randn(T, hidden).detach().requires_grad_(), randn(hidden)]
    # in: x, update; out: both; back: both gradients and the sum in, one gradient out
    moved = (4 + 4) * T * hidden
    return (
        lambda *t: add_rms_norm(*t, eps=1e-6), lambda *t: add_rms_norm_ref(*t, eps=1e-6), tensors, moved
    )  # fmt: skip


def rotary_case(inputs: Inputs) -> tuple[Op, Op, list[Tensor], int]:
    T, heads, kv_heads, dim = inputs.tokens, inputs.shape.heads, inputs.shape.kv_heads, inputs.shape.head_dim
    device, randn = inputs.device, inputs.randn
    tensors = [randn(T, heads + 2 * kv_heads, dim), randn(dim), randn(dim).detach().requires_grad_()]
    positions = torch.arange(T, device=device) % 4096
    angles = torch.arange(4096)[:, None] * 1e6 ** -(torch.arange(dim // 2) / (dim // 2))
    cos, sin = angles.cos().to(device), angles.sin().to(device)

    def call(function: Op) -> Op:
        return lambda qkv, q, k: function(
            qkv, positions, q_norm=q, k_norm=k, cos=cos, sin=sin, num_kv_heads=kv_heads
        )

    return call(rotary), call(rotary_ref), tensors, (2 + 3) * tensors[0].numel()


def swiglu_case(inputs: Inputs) -> tuple[Op, Op, list[Tensor], int]:
    T, mlp = inputs.tokens, inputs.shape.mlp
    return swiglu, swiglu_ref, [inputs.randn(T, 2 * mlp)], (3 + 5) * T * mlp


def _liger_norm(function: Any) -> Op:
    def call(x: Tensor, update: Tensor, weight: Tensor) -> Tensors:
        normed, total = function.apply(x, update, weight, 1e-6, 0.0, "llama", False)
        return total, normed

    return call


def _quack_norm(rmsnorm: Any) -> Op:
    def call(x: Tensor, update: Tensor, weight: Tensor) -> Tensors:
        normed, total = rmsnorm(x, weight, residual=update, eps=1e-6, prenorm=True)
        return total, normed

    return call


LIGER_NORM = Peer(
    *("liger", "liger-kernel", "liger_kernel.ops.fused_add_rms_norm", "LigerFusedAddRMSNormFunction.forward"),
    *(("X", "R", "W", "eps", "offset", "casting_mode", "in_place"), True),
)
QUACK_NORM = Peer("quack", "quack-kernels", "quack", "rmsnorm", ("residual", "eps", "prenorm"), True)
PEERS = {"add_rms_norm": ((LIGER_NORM, _liger_norm), (QUACK_NORM, _quack_norm))}  # neither has run here
OPS = {"add_rms_norm": norm_case, "rotary with norms": rotary_case, "swiglu": swiglu_case}


def bench(case: Case) -> list[Row]:
    inputs = Inputs(case, SHAPES[case.model])
    gpu = inputs.device.type == "cuda"
    ours, plain, tensors, moved = OPS[case.op](inputs)
    upstream = [torch.ones_like(x) for x in _tuple(ours(*tensors))]

    def step(function: Op) -> Tensors:
        out = _tuple(function(*tensors))
        return (*(x.detach() for x in out), *torch.autograd.grad(out, tensors, upstream))

    functions: dict[str, Op] = {"ours": ours, "torch": plain}
    if gpu:
        functions["torch.compile"] = torch.compile(plain)
    functions |= present(PEERS.get(case.op, ()), case.device)
    limit = 1e-2 if gpu else 1e-5
    return compare(
        {name: partial(step, function) for name, function in functions.items()},
        check=lambda a, b: agree(a, b, limit), work=moved * inputs.dtype.itemsize / 1e9, unit="GB/s",
        mode="fwd+bwd", clock="cuda" if gpu else "process", repeats=15, flush_l2=gpu,
        roofline=measure(inputs.dtype, inputs.device).bytes / 1e9,
    )  # fmt: skip


def _tuple(out: Tensor | Tensors) -> Tensors:
    return out if isinstance(out, tuple) else (out,)


def agree(ours: Tensors, theirs: Tensors, limit: float) -> bool:
    """Relative Frobenius error: one rounding each, sums over T for the weights' gradients."""
    return all(
        float((x - y).double().norm()) <= limit * float(y.double().norm())
        for x, y in zip(ours, theirs, strict=True)
    )
