"""How near is an update to the machine's own matrix products, and to TRL, at ragged lengths?

Loss, backward and AdamW of random Qwen3s of 25 and 135 M parameters on one thread, process CPU time. The
lengths are eight times the sampled tokens of recorded trials (`trial_lengths.json`), at even steps of their
distribution; every second stretch of 24 tokens is trained. Ours is packed; TRL pads to the longest, as its
generation batches are. `products` are the matrix products of the linear layers and the head alone, by torch,
in bfloat16: three each, of the tokens that ours has. Masters and AdamW are float32 but in `bf16 weights`.
At 135 M TRL has the arm alone that was its fastest at 25 M. It takes part where it is installed (the
environment of `make test-integrations`).
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
from bench_memory import SHAPES
from harness import Case, Row, main, measured
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from lamer_fast.algo.losses import Surrogate
from lamer_fast.config import AlgoConfig, LearnConfig
from lamer_fast.learn.batch import Packed, PolicyBatch
from lamer_fast.learn.optimizer import Optimizer
from lamer_fast.learn.policy import Policy
from lamer_kernels import register_attention

SCALE, TURN, LR = 8, 24, 1e-6
GOAL_SHARE, GOAL_TRL = 0.6, 1.5
BF16 = torch.bfloat16


def lengths(count: int) -> list[int]:
    """Tokens of `count` sequences."""
    record = json.loads((Path(__file__).parent / "trial_lengths.json").read_text())
    steps = (np.arange(count) + 0.5) / count
    return [SCALE * int(n) for n in np.quantile(record["sampled"][0], steps)]


def make_model(size: str) -> Any:
    hidden, inner, layers, heads, kv_heads, head_size, vocab = SHAPES[size]
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_size,
        tie_word_embeddings=True, max_position_embeddings=8192,
    )).train()  # fmt: skip


class Data:
    """The same sequences, packed and padded; `own` are the tokens to be trained."""

    def __init__(self, size: str, count: int) -> None:
        g = torch.Generator().manual_seed(1)
        self.lengths = lengths(count)
        self.ids = [torch.randint(3, SHAPES[size][-1], (n,), generator=g) for n in self.lengths]
        self.own = [torch.arange(n) // TURN % 2 == 1 for n in self.lengths]
        self.advantages = torch.randn(count, generator=g)
        self.num_own = int(sum(own.sum() for own in self.own))

    def packed(self) -> PolicyBatch:
        ids, own = torch.cat(self.ids), torch.cat(self.own)
        at = own.nonzero()[:, 0] - 1
        advantages = self.advantages.repeat_interleave(torch.tensor([int(own.sum()) for own in self.own]))
        bounds = torch.tensor([0, *self.lengths]).cumsum(0).int()
        positions = torch.cat([torch.arange(n) for n in self.lengths])
        packed = Packed(ids, positions, bounds, max(self.lengths), at, ids[at + 1])
        weights = torch.full((self.num_own,), 1 / self.num_own)
        zeros, ends = torch.zeros(self.num_own), torch.tensor([0, self.num_own])
        return PolicyBatch(packed, zeros, advantages, weights, 1.0, ends)

    def padded(self) -> dict[str, Tensor]:
        """The first turn is the prompt."""

        def pad(rows: list[Tensor]) -> Tensor:
            return torch.nn.utils.rnn.pad_sequence([row[TURN:].long() for row in rows], batch_first=True)

        prompts = torch.stack([row[:TURN] for row in self.ids])
        return {
            "prompt_ids": prompts, "prompt_mask": torch.ones_like(prompts),
            "completion_ids": pad(self.ids), "completion_mask": pad([torch.ones(n) for n in self.lengths]),
            "tool_mask": pad(self.own), "advantages": self.advantages,
            "num_items_in_batch": torch.tensor(self.num_own),
        }  # fmt: skip


Step = Callable[[], tuple[float, float]]  # -> loss, norm of the gradient


def ours(model: Any, data: Data) -> Step:
    model.set_attn_implementation(register_attention())
    policy = Policy(model, None, BF16)
    optimizer = Optimizer(policy.masters, LearnConfig(lr=LR), total_updates=1_000)
    batch, objective = data.packed(), Surrogate(AlgoConfig(entropy_coef=0.0))

    def step() -> tuple[float, float]:
        output = policy(batch, objective, head_gradient=policy.head_sum())
        output.loss.backward()
        return output.loss.item(), optimizer.step()[0]

    return step


def trl(model: Any, data: Data, weights: torch.dtype, compute: torch.dtype) -> Step:
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[EOS]": 1, "a": 2}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", eos_token="[EOS]")
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=len(data.lengths), num_generations=2,
        use_cpu=True, bf16=False, report_to=[], save_strategy="no", gradient_checkpointing=False, beta=0.0,
    )  # fmt: skip
    trainer: Any = GRPOTrainer(
        model=model.to(weights), args=args, reward_funcs=lambda completions, **_: [0.0],
        processing_class=tokenizer, train_dataset=Dataset.from_dict({"prompt": ["a"] * 8}),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    model, batch = trainer.model.train(), data.padded()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, foreach=True)

    def step() -> tuple[float, float]:
        with torch.autocast("cpu", BF16, enabled=compute is not weights):
            loss = trainer.compute_loss(model, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item(), float(norm)

    return step


def products(model: Any, data: Data) -> Callable[[], None]:
    rows = [(m, sum(data.lengths)) for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    rows.append((model.lm_head, data.num_own))
    work = []
    for linear, count in rows:
        out, width = linear.weight.shape
        work.append((torch.randn(out, width, dtype=BF16), torch.randn(count, width, dtype=BF16),
                     torch.randn(count, out, dtype=BF16)))  # fmt: skip

    def multiply() -> None:
        for weight, x, gradient in work:
            _, _, _ = x @ weight.T, gradient @ weight, gradient.T @ x

    return multiply


ARMS = {
    "TRL, bf16 autocast": (torch.float32, BF16),
    "TRL, bf16 weights": (BF16, BF16),
    "TRL, float32": (torch.float32, torch.float32),
}


def close(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return abs(a[0] - b[0]) <= 3e-2 and abs(a[1] / b[1] - 1) <= 3e-2


def timed(step: Callable[[], Any], repeats: int) -> tuple[Any, list[float]]:
    """What the first call gives, and the CPU-seconds of those after it."""
    first, seconds = step(), []
    for _ in range(repeats):
        started = time.process_time()
        step()
        seconds.append(time.process_time() - started)
    return first, seconds


def bench(case: Case) -> list[Row]:
    """One provider after the other, each with a model of its own that is gone before the next one's."""
    data, makers = Data(case.size, case.sequences), {"ours": ours}
    if find_spec("trl"):
        makers |= {name: partial(trl, weights=ARMS[name][0], compute=ARMS[name][1]) for name in case.arms}
    makers["products"] = products
    rows: list[Row] = []
    expected = None
    for name, make in makers.items():
        found, seconds = timed(make(make_model(case.size), data), case.repeats)
        gc.collect()
        expected = expected or found
        good = found is None or close(expected, found)
        rows.append(
            measured(name, seconds, "CPU time", "s", mode="update", check="passed" if good else "FAILED")
        )
    mine, *theirs, bare = (row.p50 for row in rows)
    if mine and bare:
        rows.append(measured("products / ours", [bare / mine], "rate", "share", goal=GOAL_SHARE))
    if mine and any(theirs):
        rows.append(
            measured("TRL / ours", [min(filter(None, theirs)) / mine], "CPU time", "x", goal=GOAL_TRL)
        )
    return rows


CASES = [
    Case(name="25M, 8 sequences", size="25M", sequences=8, repeats=1, arms=tuple(ARMS)),
    Case(name="135M, 4 sequences", size="135M", sequences=4, repeats=1, arms=("TRL, bf16 weights",)),
]

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(bench, CASES)
