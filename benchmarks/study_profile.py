"""Where does the time of a micro-batch and of a decoding step of Qwen3-0.6B go, on the host and on the GPU?

Prints the dearest operations of each; needs a GPU. `--model NAME` takes another shape of model_shapes.py.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench_train import make_batch
from model_shapes import DEVICE, ON_GPU, SHAPES, make_model
from torch.profiler import ProfilerActivity, profile

from lamer_fast.algo.losses import Surrogate
from lamer_fast.config import AlgoConfig
from lamer_fast.learn.policy import Policy
from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request

CALLS = 3


def show(title: str, call: Callable[[], Any]) -> None:
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize()
    rows = seen.key_averages()
    for where in ("self_device_time_total", "self_cpu_time_total"):
        total = sum(getattr(row, where) for row in rows) / CALLS / 1e3
        print(f"\n{title}, {where}: {total:.2f} ms a call")
        for row in sorted(rows, key=lambda row: -getattr(row, where))[:14]:
            print(f"{getattr(row, where) / CALLS / 1e3:9.3f} ms {row.count / CALLS:7.0f}x  {row.key[:84]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="Qwen3-0.6B", choices=SHAPES)
    args = parser.parse_args()
    if not ON_GPU:
        print("needs a CUDA device: torch.cuda.is_available() is False")
        return
    model, vocab = make_model(args.model), SHAPES[args.model][-1]
    sampler = TorchSampler(model, max_sequence_tokens=640, cache_tokens=512 * 640)
    for trial, ids in enumerate(np.random.default_rng(0).integers(vocab, size=(512, 480), dtype=np.int32)):
        sampler.submit(Request(trial, trial, ids, seed=trial, max_tokens=150, stop_ids=()))
    while sampler.num_prefill_tokens < 512 * 480:
        sampler.poll()
    show("a decoding step, 512 rows of 480 tokens", sampler.poll)
    del sampler
    gc.collect()
    policy, batch = Policy(model.train(), None, torch.bfloat16), make_batch(vocab)
    loss = Surrogate(AlgoConfig())
    torch.cuda.empty_cache()
    show(
        f"a micro-batch of {len(batch.packed.input_ids):,} tokens on {DEVICE}",
        lambda: policy(batch, loss, head_gradient=policy.head_sum()).loss.backward(),
    )


if __name__ == "__main__":
    main()
