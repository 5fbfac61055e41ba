"""What does one optimisation step of TRL's GRPO cost with its own head, and with ours?

Runs in .venv-integrations (`make test-integrations`): a GRPOTrainer whose forward is TRL's or ours, one
layer of trunk under the head of Qwen2.5-0.5B (H = 896, V = 151,936, tied), bfloat16; cases that name another
`hidden` (2560 is the head of a 4B model) or `dtype` are run by `--only hidden`. A step is loss, backward and
AdamW over `tokens`; the share is of the reply tokens: what the model wrote itself, the others are the
environment's (`tool_mask`). Memory is the peak of a step above what stays between steps; the gradient of the
tied matrix (V H numbers) is in it.
"""

import os
import tempfile
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
from datasets import Dataset
from harness import Case, Row, compare, main
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from lamer_kernels.integrations.trl import LamerMixin

PROMPT, REPLY = 8, 248
GOAL_SECONDS, GOAL_MEMORY = 3.0, 4.0  # times, at 25 %


class Trainer(LamerMixin, GRPOTrainer):
    pass


def make_trainer(rows: int, hidden: int, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=hidden, intermediate_size=4864, num_hidden_layers=1,
        num_attention_heads=hidden // 64, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    words = {"[PAD]": 0, "[EOS]": 1, "a": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="a")),
        pad_token="[PAD]",
        eos_token="[EOS]",
    )
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=rows, num_generations=2, use_cpu=True,
        bf16=False, report_to=[], save_strategy="no", gradient_checkpointing=False,
    )  # fmt: skip
    trainer: Any = Trainer(
        model=Qwen2ForCausalLM(config).to(dtype), args=args, processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": ["a"] * 8}), reward_funcs=lambda completions, **_: [0.0],
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def inputs(rows: int, share: float) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    mask = torch.ones(rows, REPLY, dtype=torch.long)
    own = torch.zeros(rows * REPLY, dtype=torch.long)
    own[torch.randperm(rows * REPLY, generator=g)[: int(share * rows * REPLY)]] = 1
    return {
        "prompt_ids": torch.randint(151_936, (rows, PROMPT), generator=g),
        "prompt_mask": torch.ones(rows, PROMPT, dtype=torch.long),
        "completion_ids": torch.randint(151_936, (rows, REPLY), generator=g),
        "completion_mask": mask, "tool_mask": own.view(rows, REPLY), "num_items_in_batch": own.sum(),
        "advantages": torch.randn(rows, generator=g),
    }  # fmt: skip


def bench(case: Case) -> list[Row]:
    rows = case.tokens // (PROMPT + REPLY)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[case.params.get("dtype", "bf16")]
    trainer = make_trainer(rows, case.params.get("hidden", 896), dtype)
    batch, model = inputs(rows, case.share), trainer.model
    ours = model.forward
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, foreach=False)

    def step(forward: Any) -> tuple[float, torch.Tensor]:
        model.forward = forward
        loss = trainer.compute_loss(model, batch)
        loss.backward()
        seen = model.lm_head.weight.grad[:512].float().clone()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item(), seen

    def close(a: Any, b: Any) -> bool:
        return bool((a[1] - b[1]).norm() <= 3e-2 * b[1].norm()) and abs(a[0] - b[0]) <= 3e-2

    step(ours)  # AdamW's state comes with the first step
    found = compare(
        {"lamer": lambda: step(ours), "TRL": lambda: step(ours.before)},
        check=close, clock="process", mode="step", repeats=1 if case.tokens > 1024 else 2, burst_s=0.0,
    )  # fmt: skip
    return found + ratios(*found, quarter=case.share == 0.25)


def ratios(ours: Row, theirs: Row, quarter: bool) -> list[Row]:
    found = []
    for metric, mine, other, goal in (
        ("CPU time", ours.p50, theirs.p50, GOAL_SECONDS if quarter else 1.0),
        ("peak memory", ours.peak_memory_bytes, theirs.peak_memory_bytes, GOAL_MEMORY if quarter else 1.0),
    ):
        value = other / mine if mine and other else None
        found.append(Row("TRL / lamer", metric, "x", value, value, value, 1, mode="step", goal=goal))
    return found


CASES = [Case(tokens=tokens, share=share) for tokens, share in ((1024, 0.25), (1024, 1.0), (4096, 0.25))]
CASES += [
    Case(tokens=1024, share=0.25, hidden=hidden, dtype=dtype)
    for hidden, dtype in ((2560, "bf16"), (896, "fp32"))
]

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(bench, CASES)
