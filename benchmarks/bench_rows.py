"""How near the memory's rate is the row pass of the loss head, by block and warps? Needs a GPU.

A row of logits is read twice and written once in half the size: 10 bytes a logit. Its first entry is what the
package launches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import Case, Row, compare, main

from lamer_fast.cost.limits import measure
from lamer_kernels.head.policy import launch
from lamer_kernels.head.policy.terms import LossConfig, TokenData
from lamer_kernels.head.projection import Head, new_logits

BLOCKS = [(8192, 8), (8192, 16), (4096, 4), (4096, 16), (2048, 4), (2048, 8), (1024, 4)]
CONFIG = LossConfig("clip", 0.2, 0.2, None, None, "k3", 0.0, None, 0.001)
ROWS = 2048


def bench(case: Case) -> list[Row]:
    g = torch.Generator("cuda").manual_seed(0)
    chosen = launch.blocks
    x = torch.empty(0, device="cuda", dtype=torch.bfloat16)
    logits = new_logits(x.view(0, 1), ROWS, case.V, "triton")
    targets = torch.randint(case.V, (ROWS,), device="cuda", generator=g)
    old, advantages, weights = (torch.randn(ROWS, device="cuda", generator=g) for _ in range(3))
    tokens = TokenData(old - 12.0, advantages, weights, None, None)
    head = Head(torch.empty(case.V, 0, device="cuda"), None, None, 1.0)

    def rows(blocks: Callable[[int], dict[str, int]]) -> torch.Tensor:
        launch.blocks = blocks
        return launch.policy_rows(logits, targets, head, 1.0, tokens, CONFIG, torch.bfloat16)[-1]

    providers = {"ours": chosen}
    for block, warps in BLOCKS:
        providers[f"{block} by {warps} warps"] = lambda _, b=block, w=warps: {"BLOCK_V": b, "num_warps": w}

    def fresh(blocks: Callable[[int], dict[str, int]]) -> torch.Tensor:
        logits.copy_(torch.randn(ROWS, case.V, device="cuda", generator=g.manual_seed(1)))
        return rows(blocks).float()

    def verify() -> bool:
        first, *others = (fresh(blocks) for blocks in providers.values())
        return all(float((y - first).norm()) < 1e-2 * float(first.norm()) for y in others)

    found = compare(
        {name: lambda b=blocks: rows(b) for name, blocks in providers.items()}, verify=verify,
        work=10 * ROWS * case.V / 1e9, unit="GB/s", clock="cuda", repeats=9,
        roofline=measure(torch.bfloat16, torch.device("cuda")).bytes / 1e9,
    )  # fmt: skip
    launch.blocks = chosen
    return found


if __name__ == "__main__":
    main(bench, [Case(V=vocab) for vocab in (151_936, 151_669)] if torch.cuda.is_available() else [])
