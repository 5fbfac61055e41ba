"""TRL's GRPO on the workload of bench_iteration.py; runs in .venv-peers and prints one JSON line per update.

    python iteration_trl.py generate|cache float32|bfloat16 UPDATES

`generate` is the multi-turn rollout_func that TRL's documentation leads to: a plain generate call per turn.
`cache` is the best that a user could write by hand here: a key-value cache kept over the turns, possible
since all replies have equal length.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
from datasets import Dataset
from iteration_workload import (
    LR,
    NUM_TRIALS,
    OBSERVATION,
    REPLY,
    TRIALS_PER_PROMPT,
    TURNS,
    answer,
    make_model,
    prompt_text,
)
from transformers import DynamicCache
from trl import GRPOConfig, GRPOTrainer


def main(mode: str, dtype: str, updates: int) -> None:
    torch.set_num_threads(1)
    model, tokenizer = make_model()
    tokenizer.padding_side = "left"
    compute = getattr(torch, dtype)

    def observe(ids: list[int]) -> tuple[list[int], float]:
        text, reward = answer(tokenizer.decode(ids))
        return tokenizer(text + " ")["input_ids"][:OBSERVATION], reward

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        policy = trainer.accelerator.unwrap_model(trainer.model)
        training = policy.training
        policy.eval()
        prompt_ids = [tokenizer(p)["input_ids"] for p in prompts]
        completion_ids: list[list[int]] = [[] for _ in prompts]
        masks: list[list[int]] = [[] for _ in prompts]
        rewards = [0.0] * len(prompts)
        cache, fed = DynamicCache(), 0
        with torch.no_grad(), torch.autocast("cpu", compute, enabled=dtype != "float32"):
            for turn in range(TURNS):
                context = torch.tensor([a + b for a, b in zip(prompt_ids, completion_ids, strict=True)])
                if mode == "cache":
                    new = decode(policy, context[:, fed:], cache)
                    fed = context.shape[1] + REPLY - 1
                else:
                    out = policy.generate(
                        input_ids=context, attention_mask=torch.ones_like(context), max_new_tokens=REPLY,
                        min_new_tokens=REPLY, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                        pad_token_id=0,
                    )  # fmt: skip
                    new = out[:, context.shape[1] :]
                for i, ids in enumerate(new.tolist()):
                    observation, reward = observe(ids)
                    rewards[i] += reward
                    completion_ids[i] += ids
                    masks[i] += [1] * REPLY
                    if turn < TURNS - 1:
                        completion_ids[i] += observation
                        masks[i] += [0] * OBSERVATION
        policy.train(training)
        return {
            "prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None, "env_mask": masks,
            "env_reward": rewards,
        }  # fmt: skip

    data = Dataset.from_list([{"prompt": prompt_text(i)} for i in range(256)])
    arguments = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=dtype == "bfloat16", fp16=False,
        per_device_train_batch_size=NUM_TRIALS, gradient_accumulation_steps=1,
        num_generations=TRIALS_PER_PROMPT, max_steps=updates, learning_rate=LR,
        max_completion_length=TURNS * REPLY + (TURNS - 1) * OBSERVATION,
        beta=0.0, temperature=1.0, top_k=0, top_p=1.0, logging_steps=1, report_to=[], save_strategy="no",
        disable_tqdm=True, gradient_checkpointing=False, seed=0,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, args=arguments, train_dataset=data, processing_class=tokenizer, rollout_func=rollout,
        reward_funcs=lambda completions, env_reward=None, **_: list(env_reward),
    )  # fmt: skip
    step = trainer.training_step  # the rollout is part of it

    def timed(*args: Any, **options: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        result = step(*args, **options)
        record = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print("RECORD " + json.dumps(record), flush=True)
        return result

    trainer.training_step = timed
    trainer.train()


def decode(policy: Any, ids: torch.Tensor, cache: Any) -> torch.Tensor:
    """REPLY sampled tokens after `ids`, which follow what `cache` holds; the last one is not fed."""
    sampled = []
    for _ in range(REPLY):
        logits = policy(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        ids = torch.multinomial(torch.softmax(logits.float(), -1), 1)
        sampled.append(ids)
    return torch.cat(sampled, 1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
