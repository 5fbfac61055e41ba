"""How near the memory's rate are rms_norm, rotary and swiglu, against plain and compiled PyTorch?

Forward and backward in bf16 at the shapes of Qwen3. A rate counts the bytes that the pass must read and write
once: tensors in and out, gradients in and out. On a CPU smaller shapes, float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, Row, compare, main
from torch import Tensor

from lamer_fast.cost.limits import measure
from lamer_kernels.layers import add_rms_norm, rotary, swiglu
from lamer_kernels.layers.rms_norm import add_rms_norm_ref
from lamer_kernels.layers.rotary import rotary_ref
from lamer_kernels.layers.swiglu import swiglu_ref

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
DTYPE = torch.bfloat16 if CUDA else torch.float32
T = 16_384 if CUDA else 1_024
SHAPES = {"Qwen3-0.6B": (1024, 3072, 16, 8, 128), "Qwen3-4B": (2560, 9728, 32, 8, 128)}
if not CUDA:
    SHAPES = {"25 M": (384, 1024, 6, 2, 64)}


def randn(*shape: int) -> Tensor:
    g = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=g).to(DEVICE, DTYPE).requires_grad_()


def norm_case(hidden: int, **_: int) -> tuple[Callable, Callable, list[Tensor], int]:
    tensors = [randn(T, hidden), randn(T, hidden).detach().requires_grad_(), randn(hidden)]
    # in: x, update; out: both; back: both gradients and the sum in, one gradient out
    moved = (4 + 4) * T * hidden
    return (
        lambda *t: add_rms_norm(*t, eps=1e-6), lambda *t: add_rms_norm_ref(*t, eps=1e-6), tensors, moved
    )  # fmt: skip


def rotary_case(
    heads: int, kv_heads: int, dim: int, **_: int
) -> tuple[Callable, Callable, list[Tensor], int]:
    tensors = [randn(T, heads + 2 * kv_heads, dim), randn(dim), randn(dim).detach().requires_grad_()]
    positions = torch.arange(T, device=DEVICE) % 4096
    angles = torch.arange(4096)[:, None] * 1e6 ** -(torch.arange(dim // 2) / (dim // 2))
    fixed = {"cos": angles.cos().to(DEVICE), "sin": angles.sin().to(DEVICE), "num_kv_heads": kv_heads}

    def call(function: Callable) -> Callable:
        return lambda qkv, q, k: function(qkv, positions, q_norm=q, k_norm=k, **fixed)

    return call(rotary), call(rotary_ref), tensors, (2 + 3) * tensors[0].numel()


def swiglu_case(mlp: int, **_: int) -> tuple[Callable, Callable, list[Tensor], int]:
    return swiglu, swiglu_ref, [randn(T, 2 * mlp)], (3 + 5) * T * mlp


OPS = {"add_rms_norm": norm_case, "rotary with norms": rotary_case, "swiglu": swiglu_case}


def bench(case: Case) -> list[Row]:
    hidden, mlp, heads, kv_heads, dim = SHAPES[case.model]
    sizes = {"hidden": hidden, "mlp": mlp, "heads": heads, "kv_heads": kv_heads, "dim": dim}
    ours, plain, tensors, moved = OPS[case.op](**sizes)
    upstream = [torch.ones_like(x) for x in _tuple(ours(*tensors))]

    def step(function: Callable) -> tuple[Tensor, ...]:
        out = _tuple(function(*tensors))
        return (*(x.detach() for x in out), *torch.autograd.grad(out, tensors, upstream))

    providers = {"ours": lambda: step(ours), "torch": lambda: step(plain)}
    if CUDA:
        compiled = torch.compile(plain)
        providers["torch.compile"] = lambda: step(compiled)
    return compare(
        providers, check=agree, work=moved * DTYPE.itemsize / 1e9, unit="GB/s", mode="fwd+bwd",
        clock="cuda" if CUDA else "process", repeats=15, flush_l2=True,
        roofline=measure(DTYPE, DEVICE).bytes / 1e9,
    )  # fmt: skip


def _tuple(out: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def agree(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    """Relative Frobenius error: one rounding each, sums over T for the weights' gradients."""
    limit = 1e-2 if DTYPE is torch.bfloat16 else 1e-5
    return all(
        float((x - y).double().norm()) <= limit * float(y.double().norm())
        for x, y in zip(ours, theirs, strict=True)
    )


if __name__ == "__main__":
    main(bench, [Case(op=op, model=model) for model in SHAPES for op in OPS])
