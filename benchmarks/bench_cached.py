"""How near the memory's rate is the sampler's attention over its cache, by warps and stages? Needs a GPU.

One new token a row, bf16, heads of Qwen3; keys and values are read once. The first entry is what the package
launches.
"""

from __future__ import annotations

from typing import Any

import torch
from harness import Case, Row, compare, main

from lamer_fast.cost.limits import measure
from lamer_kernels.layers import cached_attention, new_slots
from lamer_kernels.layers.cached_attention import gpu

SETTINGS = [(4, 1), (4, 3), (4, 4), (2, 2), (2, 3), (8, 2)]  # warps, stages
KV_HEADS, D = 8, 128


def bench(case: Case) -> list[Row]:
    device, chosen = torch.device("cuda"), gpu.constants
    g = torch.Generator("cuda").manual_seed(0)
    keys, values = new_slots(case.rows, case.length, KV_HEADS, D, torch.bfloat16, device)
    for x in (keys, values):
        x.normal_(generator=g)
    q, k, v = (
        torch.randn(case.rows, n, D, device=device, generator=g).bfloat16()
        for n in (case.heads, KV_HEADS, KV_HEADS)
    )
    slots = torch.arange(case.rows, device=device)
    positions, offsets = torch.full_like(slots, case.length - 1), torch.arange(case.rows + 1, device=device)

    def run(more: dict[str, int]) -> torch.Tensor:
        gpu.constants = lambda *sizes: chosen(*sizes) | more
        return cached_attention(q, k, v, keys, values, slots, positions, offsets)

    providers: dict[str, Any] = {"ours": {}}
    providers |= {f"{w} warps, {s} stages": {"num_warps": w, "num_stages": s} for w, s in SETTINGS}
    found = compare(
        {name: lambda more=more: run(more) for name, more in providers.items()},
        check=lambda a, b: float((a - b).norm()) < 1e-2 * float(b.norm()),
        work=4 * case.rows * case.length * KV_HEADS * D / 1e9, unit="GB/s", clock="cuda", repeats=9,
        roofline=measure(torch.bfloat16, device).bytes / 1e9,
    )  # fmt: skip
    gpu.constants = chosen
    return found


if __name__ == "__main__":
    cases = [Case(rows=512, length=512, heads=16), Case(rows=64, length=2048, heads=32)]
    main(bench, cases if torch.cuda.is_available() else [])
