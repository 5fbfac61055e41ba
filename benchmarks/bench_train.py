"""How near the matmul rate is an update (forward, backward, AdamW) of Qwen3 shapes on agent sequences?

Random weights, packed sequences of 4,096 tokens; half of them, in turns of 64, are trained on. On a CPU a
tiny shape only: a smoke test.
"""

from __future__ import annotations

import numpy as np
import torch
from harness import Case, Row, compare, main
from model_shapes import DEVICE, NAMES, ON_GPU, SHAPES, make_model

from lamer_fast.algo.losses import Surrogate
from lamer_fast.config import AlgoConfig, LearnConfig
from lamer_fast.cost.limits import measure, shape_of, training_flop
from lamer_fast.learn.batch import Packed, PolicyBatch
from lamer_fast.learn.optimizer import Optimizer
from lamer_fast.learn.policy import Policy

LENGTH, TURN = 4_096, 64
SEQUENCES = 4 if ON_GPU else 1
MICROBATCHES = 4 if ON_GPU else 1


def make_batch(vocab_size: int) -> PolicyBatch:
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (SEQUENCES * LENGTH,), generator=g)
    positions = torch.arange(LENGTH).repeat(SEQUENCES)
    idx = ((positions // TURN % 2 == 1) & (positions < LENGTH - 1)).nonzero()[:, 0]
    num = len(idx)
    logprobs = torch.full((num,), -float(np.log(vocab_size)))
    packed = Packed(
        input_ids=ids, position_ids=positions, max_seqlen=LENGTH, token_idx=idx, targets=ids[idx + 1],
        cu_seqlens=torch.arange(0, (SEQUENCES + 1) * LENGTH, LENGTH, dtype=torch.int32),
    )  # fmt: skip
    batch = PolicyBatch(
        packed, rollout_logprobs=logprobs, advantages=torch.randn(num, generator=g),
        token_weights=torch.full((num,), 1 / (num * MICROBATCHES)), temperature=1.0,
        cu_segments=torch.tensor([0, num]),
    )  # fmt: skip
    return batch.to(DEVICE)


def bench(case: Case) -> list[Row]:
    model = make_model(case.model)
    if case.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy = Policy(model.train(), None, torch.bfloat16)
    optimizer = Optimizer(policy.masters, LearnConfig(), total_updates=1_000)
    batch, loss = make_batch(SHAPES[case.model][-1]), Surrogate(AlgoConfig())
    flop = MICROBATCHES * training_flop(
        shape_of(model), np.full(SEQUENCES, LENGTH), len(batch.packed.targets)
    )
    done = []

    def update() -> None:
        for _ in range(MICROBATCHES):
            policy(batch, loss, head_gradient=policy.head_sum()).loss.backward()
        done.append(optimizer.step())

    def verify() -> bool:
        """The last update was applied: finite loss and gradient."""
        return done[-1][1] and done[-1][0] > 0

    rate = measure(torch.bfloat16, DEVICE).flops
    return compare(
        {f"ours, {case.model}": update},
        verify=verify, work_flop=flop, metric="model flop", mode="update", repeats=5,
        clock="cuda" if ON_GPU else "process", roofline=rate / 1e12,
        goal=0.45 * rate / 1e12 if case.model == "Qwen3-4B" else None,
    )  # fmt: skip


if __name__ == "__main__":
    main(bench, [Case(model=name, checkpointing=name in ("Qwen3-1.7B", "Qwen3-4B")) for name in NAMES])
