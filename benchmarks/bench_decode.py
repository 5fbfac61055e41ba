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
from lamer_fast.samplers.protocol import Completion, Request

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

    def decode(sampler: TorchSampler) -> list[Completion]:
        """Every prompt but its last token is in the cache after the first call."""
        for trial, prompt in enumerate(prompts):
            sampler.submit(Request(next(numbers), trial, prompt, seed=trial, max_tokens=NEW, stop_ids=()))
        done = []
        while len(done) < case.batch:
            done += sampler.poll()
        return sorted(done, key=lambda c: c.id)

    for sampler in samplers.values():
        decode(sampler)  # the prompts too

    def check(ours: list[Completion], theirs: list[Completion]) -> bool:
        """Whole replies, as likely; how many are the same is printed, since tests hold it to the bit."""
        same = sum(a.token_ids.tolist() == b.token_ids.tolist() for a, b in zip(ours, theirs, strict=True))
        print(f"{same} of {case.batch} replies are the same", flush=True)
        lengths = {len(c.token_ids) for c in (*ours, *theirs)}
        means = [np.mean([c.logprobs.mean() for c in completions]) for completions in (ours, theirs)]
        return lengths == {NEW} and abs(means[0] - means[1]) < 0.1

    def verify() -> bool:
        sampler = samplers["TorchSampler"]
        return check(decode(sampler), decode(sampler))

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
