"""TRL's GRPO, before and after: one class more among the bases, and credit for each turn of a rollout.

    pip install trl peft
    python examples/kernels/trl_grpo.py

Each completion is a trial of two episodes at a toy game: say a letter, hear "no" or "yes", try again. Its
reply tokens are the model's, the others the environment's; ``turns`` tells what each turn was worth.
"""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from lamer_kernels.integrations.trl import LamerMixin

LETTERS = "abcd"
WORDS = ["[PAD]", "[EOS]", "say", "no", "yes", *LETTERS]


class Trainer(LamerMixin, GRPOTrainer):
    credit = {"estimator": "grpo", "gamma_traj": 0.6}  # noqa: RUF012


def rollout(prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
    """Two tries at the letter of the prompt, a reply token and an answer token each."""
    tokenizer, rows = trainer.processing_class, []
    for i, prompt in enumerate(prompts):
        wanted = prompt.split()[-1]
        tries = [LETTERS[(i + k) % 4] for k in range(2)]  # a model would be asked here
        won = [guess == wanted for guess in tries]
        words = [word for guess, w in zip(tries, won, strict=True) for word in (guess, "yes" if w else "no")]
        rows.append(
            {
                "prompt_ids": tokenizer(prompt)["input_ids"],
                "completion_ids": tokenizer.convert_tokens_to_ids([*words, "[EOS]"]),
                "logprobs": [-2.0] * (len(words) + 1), "env_mask": [1, 0, 1, 0, 1],
                "turns": [
                    {"start": 2 * k, "end": 2 * k + 1, "reward": float(w), "episode": k, "anchor": prompt}
                    for k, w in enumerate(won)
                ],
            }
        )  # fmt: skip
    return {name: [row[name] for row in rows] for name in rows[0]}


def make_trainer(cls: type[GRPOTrainer], **options: Any) -> Any:
    torch.manual_seed(0)
    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="say"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", eos_token="[EOS]")
    config = Qwen2Config(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=4, num_generations=4, max_steps=2,
        use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    return cls(
        model=Qwen2ForCausalLM(config), args=args, processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": [f"say {letter}" for letter in LETTERS]}),
        reward_funcs=lambda completions, **_: [float("yes" in c) for c in completions], **options,
    )  # fmt: skip


def gradients(cls: type[GRPOTrainer], inputs: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    trainer = make_trainer(cls)
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])


def main() -> None:
    g = torch.Generator().manual_seed(0)
    ones = torch.ones(4, 6, dtype=torch.long)
    inputs = {
        "prompt_ids": torch.randint(9, (4, 2), generator=g), "prompt_mask": ones[:, :2],
        "completion_ids": torch.randint(9, (4, 6), generator=g), "completion_mask": ones,
        "tool_mask": torch.tensor([[1, 0, 0, 1, 0, 0]] * 4), "num_items_in_batch": torch.tensor(8),
        "advantages": torch.randn(4, generator=g),
    }  # fmt: skip
    (theirs, a), (ours, b) = (gradients(cls, inputs) for cls in (GRPOTrainer, Trainer))
    print(f"before  loss {theirs:.7f}\nafter   loss {ours:.7f}")
    print(f"gradients: relative difference {float((a - b).norm() / a.norm()):.1e}")
    trainer = make_trainer(Trainer, rollout_func=rollout)
    trainer.train()
    print(f"trained {trainer.state.global_step} steps with the credit of turns")


if __name__ == "__main__":
    main()
