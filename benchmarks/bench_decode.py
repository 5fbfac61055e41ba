"""How near the memory's rate does TorchSampler decode? On a CPU a tiny shape only: a smoke test."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from harness import Case, Row, compare, main
from model_shapes import DEVICE, NAMES, ON_GPU, SHAPES, make_model

from lamer_fast.cost.limits import decode_seconds, measure, shape_of
from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request

NEW = 32  # tokens of a reply


def bench(case: Case) -> list[Row]:
    model = make_model(case.model).eval()
    sampler = TorchSampler(model, max_sequence_tokens=case.length + NEW, max_in_flight=case.batch)
    rng = np.random.default_rng(0)
    prompts = rng.integers(SHAPES[case.model][-1], size=(case.batch, case.length), dtype=np.int32)
    numbers, replies = itertools.count(), []

    def decode() -> list[int]:
        """Every prompt but its last token is in the cache after the first call."""
        for trial, prompt in enumerate(prompts):
            sampler.submit(Request(next(numbers), trial, prompt, seed=trial, max_tokens=NEW, stop_ids=()))
        completions = []
        while len(completions) < case.batch:
            completions += sampler.poll()
        replies.append(sorted((c.id % case.batch, c.token_ids.tolist()) for c in completions))
        return completions

    def verify() -> bool:
        """Prefilled or decoded from the cache, the same replies of full length."""
        decode()
        return all(len(ids) == NEW for _, ids in replies[-1]) and replies[-1] == replies[-2]

    rates = measure(torch.bfloat16, DEVICE)
    limit = case.batch / decode_seconds(shape_of(model), rates, case.batch, case.length + NEW / 2)
    return compare(
        {"TorchSampler": decode}, verify=verify, work=case.batch * NEW, unit="tokens/s", repeats=5,
        clock="cuda" if ON_GPU else "process", metric="decode", roofline=limit,
    )  # fmt: skip


BATCH, LENGTH = (64, 1_024) if ON_GPU else (16, 128)

if __name__ == "__main__":
    main(bench, [Case(model=name, batch=BATCH, length=LENGTH) for name in NAMES])
