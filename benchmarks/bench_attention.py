"""How fast is varlen_attention against PyTorch's own attention at the shapes of Qwen3?

Packed sequences of equal length, so that the batched baselines need no padding: their best case. Forward and
backward, causal; the roofline is the rate of one large matrix product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import Case, Row, compare, main
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lamer_fast.cost.limits import measure
from lamer_kernels import varlen_attention

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
DTYPE = torch.bfloat16 if CUDA else torch.float32
SDPA = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION} if CUDA else {}
CASES = (
    [
        Case(model="Qwen3-0.6B", heads=16, kv_heads=8, dim=128, sequences=4, length=4096),
        Case(model="Qwen3-4B", heads=32, kv_heads=8, dim=128, sequences=4, length=4096),
        Case(model="Qwen3-4B, short", heads=32, kv_heads=8, dim=128, sequences=32, length=512),
    ]
    if CUDA
    else [Case(model="tiny", heads=4, kv_heads=2, dim=32, sequences=4, length=256)]
)


def bench(case: Case) -> list[Row]:
    total = case.sequences * case.length
    g = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(total, n, case.dim, generator=g).to(DEVICE, DTYPE).requires_grad_()
        for n in (case.heads, case.kv_heads, case.kv_heads)
    )
    upstream = torch.randn(total, case.heads, case.dim, generator=g).to(DEVICE, DTYPE)
    offsets = torch.arange(0, total + 1, case.length, dtype=torch.int32, device=DEVICE)

    def packed() -> Tensor:
        return varlen_attention(q, k, v, offsets, case.length, True)

    def batched(backend: SDPBackend | None) -> Tensor:
        rows = [x.view(case.sequences, case.length, -1, case.dim).transpose(1, 2) for x in (q, k, v)]
        with sdpa_kernel([backend] if backend else list(SDPA.values()) or [SDPBackend.MATH]):
            out = F.scaled_dot_product_attention(*rows, is_causal=True, enable_gqa=True)
        return out.transpose(1, 2).reshape(total, case.heads, case.dim)

    def step(function: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        out = function()
        return (out.detach(), *torch.autograd.grad(out, (q, k, v), upstream))

    providers = {"ours": lambda: step(packed)}
    names = {f"SDPA {name}": backend for name, backend in SDPA.items()} or {"SDPA": None}
    for name, backend in names.items():
        providers[name] = lambda backend=backend: step(lambda: batched(backend))
    flop = 3.5 * 4 * case.heads * case.dim * case.sequences * case.length**2 / 2  # backward: 5 products of 2
    return compare(
        providers, check=agree, work_flop=flop, mode="fwd+bwd", clock="cuda" if CUDA else "process",
        repeats=15 if CUDA else 5, roofline=measure(DTYPE, DEVICE).flops / 1e12,
    )  # fmt: skip


def agree(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    """Relative Frobenius error of output and gradients: bf16 keeps 8 bits."""
    limit = 2e-2 if DTYPE is torch.bfloat16 else 1e-5
    return all(
        float((x - y).float().norm() / y.float().norm()) < limit for x, y in zip(ours, theirs, strict=True)
    )


if __name__ == "__main__":
    main(bench, CASES)
