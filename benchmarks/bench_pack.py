"""Bins of sequences, and what it saves to compute common beginnings once.

Rows of `pack`: seconds of a plan. Rows of a model's trunk, forward and backward: separate sequences against
their prefix tree, which gives the same gradients; `tokens` is what is left of them.

- turns: per-turn samples of trials, each the whole past of its turn, as verl-agent and LaMer make them
- groups: samples of one prompt
- no sharing: what the tree costs where it cannot help
"""

from __future__ import annotations

from typing import Any

import torch
from harness import Case, Row, compare, main, measured
from model_shapes import DEVICE, NAMES, make_model
from torch import Tensor

from lamer_fast.model.decoder import Attention, Decoder, PackedAttention, TreeAttention
from lamer_kernels import prefix_tree
from lamer_kernels.bench import pack

ON_GPU = DEVICE.type == "cuda"
CASES = [Case(op="pack", sequences=n, max_tokens=32_768) for n in (1_000, 100_000)] + [
    Case(op="trunk", model=NAMES[0], data=data) for data in pack.DATA
]


def bench(case: Case) -> list[Row]:
    return pack.bench_plan(case) if case.op == "pack" else bench_trunk(case)


def bench_trunk(case: Case) -> list[Row]:
    model = make_model(case.model)
    if not ON_GPU:
        model.float()
    decoder, parts = Decoder(model), pack.sequences(case.data)
    ids = torch.cat(parts).to(DEVICE)
    cu = torch.tensor([0, *map(len, parts)]).cumsum(0).int().to(DEVICE)
    longest = max(map(len, parts))
    positions = torch.cat([torch.arange(len(part)) for part in parts]).to(DEVICE)
    tree = prefix_tree(ids, cu)
    g = torch.Generator().manual_seed(1)
    upstream = torch.randn(len(ids), model.config.hidden_size, generator=g).to(DEVICE, model.dtype)
    parameters = list(model.get_decoder().parameters())

    def step(ids: Tensor, attention: Attention, row: Tensor | None) -> tuple[Any, ...]:
        hidden = decoder(ids, attention)
        hidden = hidden if row is None else hidden[row]
        return torch.autograd.grad(hidden, parameters, upstream)

    def separate() -> tuple[Any, ...]:
        return step(ids, PackedAttention(positions, cu, longest), None)

    def shared() -> tuple[Any, ...]:
        tree = prefix_tree(ids, cu)
        return step(ids[tree.source], TreeAttention(tree.position_ids, tree.subtree_end, longest), tree.row)

    rows = compare(
        {"prefix tree": shared, "separate": separate}, check=agree, mode="fwd+bwd",
        clock="cuda" if ON_GPU else "process", repeats=7,
    )  # fmt: skip
    counts = {"prefix tree": len(tree.source), "separate": len(ids)}
    return rows + [measured(name, [num], "tokens", "tokens") for name, num in counts.items()]


def agree(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    """Relative Frobenius error of every parameter's gradient: bf16 keeps 8 bits."""
    limit = 5e-2 if ON_GPU else 1e-5
    pairs = zip(ours, theirs, strict=True)
    return all(float((x - y).float().norm() / y.float().norm()) < limit for x, y in pairs)


if __name__ == "__main__":
    main(bench, CASES)
