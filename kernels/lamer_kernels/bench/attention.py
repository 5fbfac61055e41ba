"""How fast is varlen_attention against PyTorch's own attention, and against each kernel it may choose?

Packed sequences of equal length, so that the batched baselines need no padding: their best case. Forward and
backward, causal; the roofline is the rate of one large matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..layers.attention import varlen_attention
from ..layers.attention.choice import check_can, choose
from ..layers.attention.vendors import VENDORS
from .harness import Case, Row, compare
from .roofline import measure
from .shapes import SHAPES

SDPA = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def cases(device: str, shape: str | None = None, sizes: tuple[int, ...] = ()) -> list[Case]:
    """Of two Qwen3 on a GPU, of a tiny model on a CPU; sizes are tokens of four sequences."""
    gpu = device.startswith("cuda")
    models = [shape] if shape else ["Qwen3-0.6B", "Qwen3-4B"] if gpu else ["tiny"]
    found = [_case(model, model, 4, T // 4) for model in models for T in sizes or (16_384 if gpu else 1024,)]
    return found + ([_case("Qwen3-4B, short", "Qwen3-4B", 32, 512)] if gpu and not shape else [])


def _case(model: str, shape: str, sequences: int, length: int) -> Case:
    sizes = SHAPES[shape]
    return Case(
        model=model, heads=sizes.heads, kv_heads=sizes.kv_heads, dim=sizes.head_dim,
        T=sequences * length, length=length,
    )  # fmt: skip


def bench(case: Case) -> list[Row]:
    device = torch.device(case.device)
    gpu = device.type == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    num_sequences = case.T // case.length
    g = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(case.T, n, case.dim, generator=g).to(device, dtype).requires_grad_()
        for n in (case.heads, case.kv_heads, case.kv_heads)
    )
    upstream = torch.randn(case.T, case.heads, case.dim, generator=g).to(device, dtype)
    offsets = torch.arange(0, case.T + 1, case.length, dtype=torch.int32, device=device)

    def packed(implementation: str) -> Tensor:
        return varlen_attention(q, k, v, offsets, case.length, True, implementation=implementation)

    def batched(backend: SDPBackend) -> Tensor:
        query, key, value = (
            x.view(num_sequences, case.length, -1, case.dim).transpose(1, 2) for x in (q, k, v)
        )
        with sdpa_kernel([backend]):
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return out.transpose(1, 2).reshape(case.T, case.heads, case.dim)

    def step(function: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        out = function()
        return (out.detach(), *torch.autograd.grad(out, (q, k, v), upstream))

    chosen = choose(device, dtype, case.dim, deterministic=False)
    calls = {"ours": partial(packed, "auto")}
    for name, backend in SDPA.items() if gpu else {"math": SDPBackend.MATH}.items():
        calls[f"SDPA {name}" if gpu else "SDPA"] = partial(batched, backend)
    for name in VENDORS:
        try:
            check_can(name, device, dtype, deterministic=False)
        except ValueError as reason:
            print(f"{name}: absent, {reason}")
            continue
        if name != chosen:
            calls[name] = partial(packed, name)
    flop = 3.5 * 4 * case.heads * case.dim * case.T * case.length / 2  # backward: 5 products of 2
    limit = 2e-2 if gpu else 1e-5  # relative Frobenius error: bf16 keeps 8 bits
    rows = compare(
        {name: partial(step, call) for name, call in calls.items()}, check=lambda a, b: agree(a, b, limit),
        work_flop=flop, mode="fwd+bwd", clock="cuda" if gpu else "process", repeats=15 if gpu else 5,
        roofline=measure(dtype, device).flops / 1e12,
    )  # fmt: skip
    rows[0].note = f"by {chosen}"
    return rows


def agree(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], limit: float) -> bool:
    """Of output and gradients."""
    return all(
        float((x - y).float().norm() / y.float().norm()) < limit for x, y in zip(ours, theirs, strict=True)
    )
