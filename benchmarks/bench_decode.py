"""How near the memory's rate does TorchSampler decode, with and without CUDA graphs?

On a CPU a tiny shape only: a smoke test.
"""

from __future__ import annotations

import gc
import itertools

import numpy as np
import torch
from harness import Case, Row, compare, main
from model_shapes import DEVICE, ON_GPU, SHAPES, make_model

from lamer_fast.cost.limits import decode_seconds, measure, shape_of
from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request

NEW = 32  # tokens of a reply


def bench(case: Case) -> list[Row]:
    gc.collect()  # the case before it
    if ON_GPU:
        torch.cuda.empty_cache()
    model = make_model(case.model).eval()
    samplers = {
        name: TorchSampler(
            model, max_sequence_tokens=case.length + NEW, max_in_flight=case.batch,
            cache_tokens=case.batch * (case.length + NEW), cuda_graphs=graphs,
        )
        for name, graphs in PROVIDERS.items()
    }  # fmt: skip
    rng = np.random.default_rng(0)
    prompts = rng.integers(SHAPES[case.model][-1], size=(case.batch, case.length), dtype=np.int32)
    numbers = itertools.count()

    def decode(sampler: TorchSampler) -> list[list[int]]:
        """Every prompt but its last token is in the cache after the first call."""
        for trial, prompt in enumerate(prompts):
            sampler.submit(Request(next(numbers), trial, prompt, seed=trial, max_tokens=NEW, stop_ids=()))
        done = []
        while len(done) < case.batch:
            done += sampler.poll()
        return [c.token_ids.tolist() for c in sorted(done, key=lambda c: c.id)]

    first = {name: decode(sampler) for name, sampler in samplers.items()}  # the prompts too

    def check(ours: list[list[int]], theirs: list[list[int]]) -> bool:
        """Replayed or not, prefilled or decoded from the cache: replies of full length, and the same."""
        return ours == theirs

    def verify() -> bool:
        """From the cache as after the prompts, in 16 bits but for near ties."""
        replies = decode(samplers["TorchSampler"])
        same = np.mean([a == b for a, b in zip(first["TorchSampler"], replies, strict=True)])
        return all(len(ids) == NEW for ids in replies) and same > 0.5

    rates = measure(torch.bfloat16, DEVICE)
    limit = case.batch / decode_seconds(shape_of(model), rates, case.batch, case.length + NEW / 2)
    return compare(
        {name: lambda s=sampler: decode(s) for name, sampler in samplers.items()}, check=check, verify=verify,
        work=case.batch * NEW, unit="tokens/s", repeats=3,
        clock="cuda" if ON_GPU else "process", metric="decode", roofline=limit,
    )  # fmt: skip


PROVIDERS = {"TorchSampler": True, "without graphs": False} if ON_GPU else {"TorchSampler": True}
SIZES = [
    ("Qwen3-0.6B", 64, 1_024),
    ("Qwen3-0.6B", 512, 480),
    ("Qwen3-0.6B", 1, 1_024),
    ("Qwen3-4B", 128, 480),
]

if __name__ == "__main__":
    sizes = SIZES if ON_GPU else [("tiny", 16, 128)]
    main(bench, [Case(model=model, batch=batch, length=length) for model, batch, length in sizes])
