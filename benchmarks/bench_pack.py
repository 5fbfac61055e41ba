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
from lamer_kernels import pack, prefix_tree

ON_GPU = DEVICE.type == "cuda"
CASES = [Case(op="pack", sequences=n, max_tokens=32_768) for n in (1_000, 100_000)] + [
    Case(op="trunk", model=NAMES[0], data=data) for data in ("turns", "groups", "no sharing")
]


def bench(case: Case) -> list[Row]:
    return bench_plan(case) if case.op == "pack" else bench_trunk(case)


def bench_plan(case: Case) -> list[Row]:
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 4096, (case.sequences,), generator=g)
    plans = {
        name: lambda name=name: pack(lengths, case.max_tokens, backend=name) for name in ("cpu", "reference")
    }
    return compare(plans, check=torch.equal, clock="process", repeats=5)


def sequences(data: str) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)

    def new(num: int) -> Tensor:
        return torch.randint(4000, (num,), generator=g)

    if data == "turns":  # 4 trials of 9 turns: a system prompt, then 60 tokens of board and reply each turn
        trials = [torch.cat([new(120)] + [new(60) for _ in range(9)]) for _ in range(4)]
        return [trial[: 120 + 60 * (turn + 1)] for trial in trials for turn in range(9)]
    if data == "groups":  # 4 prompts of 400 tokens, 8 replies of 100 each
        prompts = [new(400) for _ in range(4)]
        return [torch.cat([prompt, new(100)]) for prompt in prompts for _ in range(8)]
    return [new(500) for _ in range(16)]


def bench_trunk(case: Case) -> list[Row]:
    model = make_model(case.model)
    if not ON_GPU:
        model.float()
    decoder, parts = Decoder(model), sequences(case.data)
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
