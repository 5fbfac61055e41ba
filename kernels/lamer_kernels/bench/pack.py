"""Bins of sequences, and what attention saves where common beginnings are computed once.

Rows of `plan`: seconds of `pack`. Rows of `tree`: attention of separate sequences, forward and backward,
against their prefix tree, which gives the same outputs.

- turns: per-turn samples of trials, each the whole past of its turn
- groups: samples of one prompt
- no sharing: what the tree costs where it cannot help
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .. import pack, prefix_tree, tree_attention, varlen_attention
from .._core.dispatch import HAS_NUMBA
from .harness import Case, Row, compare
from .shapes import SHAPES

DATA = ("turns", "groups", "no sharing")


def cases(device: str, shape: str | None = None, sizes: tuple[int, ...] = ()) -> list[Case]:
    """sizes are sequences, of the plans."""
    plans = [Case(op="plan", sequences=n, max_tokens=32_768) for n in sizes or (1_000, 100_000)]
    model = shape or ("Qwen3-0.6B" if device.startswith("cuda") else "tiny")
    return plans + [Case(op="tree", model=model, data=data) for data in DATA]


def bench(case: Case) -> list[Row]:
    return bench_plan(case) if case.op == "plan" else bench_tree(case)


def bench_plan(case: Case) -> list[Row]:
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 4096, (case.sequences,), generator=g)
    plans = {"reference": partial(pack, lengths, case.max_tokens, backend="reference")}
    if HAS_NUMBA:
        plans = {"cpu": partial(pack, lengths, case.max_tokens, backend="cpu")} | plans
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


def bench_tree(case: Case) -> list[Row]:
    sizes, gpu, device = SHAPES[case.model], case.device.startswith("cuda"), torch.device(case.device)
    parts = sequences(case.data)
    ids, longest = torch.cat(parts).to(device), max(map(len, parts))
    cu = torch.tensor([0, *map(len, parts)]).cumsum(0).int().to(device)
    tree = prefix_tree(ids, cu)
    g = torch.Generator().manual_seed(1)
    heads = (sizes.heads, sizes.kv_heads, sizes.kv_heads)
    dtype = torch.bfloat16 if gpu else torch.float32
    once = [
        torch.randn(len(tree.source), n, sizes.head_dim, generator=g).to(device, dtype).requires_grad_()
        for n in heads
    ]
    each = [x.detach()[tree.row].requires_grad_() for x in once]  # what separate sequences would hold
    upstream = torch.randn(len(ids), sizes.heads, sizes.head_dim, generator=g).to(device, dtype)

    def step(out: Tensor, inputs: list[Tensor]) -> Tensor:
        torch.autograd.grad(out, inputs, upstream)
        return out.detach()

    def shared() -> Tensor:
        q, k, v = once
        return step(tree_attention(q, k, v, tree.subtree_end)[tree.row], once)

    def separate() -> Tensor:
        q, k, v = each
        return step(varlen_attention(q, k, v, cu, longest, True), each)

    rows = compare(
        {"prefix tree": shared, "separate": separate}, check=lambda a, b: agree(a, b, 2e-2 if gpu else 1e-5),
        mode="fwd+bwd", clock="cuda" if gpu else "process", repeats=7,
    )  # fmt: skip
    for row, num in zip(rows, (len(tree.source), len(ids)), strict=True):
        row.note = f"{num} tokens"
    return rows


def agree(a: Tensor, b: Tensor, limit: float) -> bool:
    """Relative Frobenius error: bf16 keeps 8 bits."""
    return float((a - b).float().norm() / b.float().norm()) < limit
