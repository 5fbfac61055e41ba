"""TRL's GRPO with our head and credit: its own loss and gradients, fewer tokens, advantages by turns."""

import pytest
import torch

pytest.importorskip("trl", reason="needs TRL: make test-integrations")

from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from lamer_kernels import linear_logprob
from lamer_kernels.integrations import trl as integration
from lamer_kernels.integrations.trl import LamerMixin
from lamer_kernels.integrations.turns import turn_advantages
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
B, PROMPT, REPLY = 4, 5, 9


def tiny_qwen(tied=True):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=tied, initializer_range=0.3,
        eos_token_id=TOKENIZER.eos_token_id, pad_token_id=TOKENIZER.pad_token_id,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


class Trainer(LamerMixin, GRPOTrainer):
    credit = {"estimator": "grpo", "gamma_traj": 0.5}  # noqa: RUF012


def make(cls, folder, tied=True, rollout_func=None, peft_config=None, **settings):
    args = GRPOConfig(
        output_dir=str(folder), per_device_train_batch_size=B, num_generations=2, use_cpu=True, bf16=False,
        report_to=[], logging_steps=1, save_strategy="no", max_steps=1, max_completion_length=REPLY,
        **settings,
    )  # fmt: skip
    data = Dataset.from_dict({"prompt": ["a" * n for n in range(1, 9)]})
    model = tiny_qwen(tied)
    model.save_pretrained(folder / "model")  # where TRL finds its reference model
    model.config._name_or_path = str(folder / "model")
    return cls(
        model=model, args=args, processing_class=TOKENIZER, train_dataset=data,
        reward_funcs=lambda completions, **_: [float(len(c) % 3) for c in completions],
        rollout_func=rollout_func, peft_config=peft_config,
    )  # fmt: skip


def batch(tool_mask=True, per_token=False):
    g = torch.Generator().manual_seed(1)
    lengths = torch.tensor([9, 4, 7, 1])
    completion_mask = (torch.arange(REPLY) < lengths[:, None]).int()
    inputs = {
        "prompt_ids": torch.randint(90, (B, PROMPT), generator=g),
        "prompt_mask": (torch.arange(PROMPT) >= torch.tensor([0, 2, 1, 4])[:, None]).int(),
        "completion_ids": torch.randint(90, (B, REPLY), generator=g),
        "completion_mask": completion_mask,
        "advantages": torch.randn((B, REPLY) if per_token else (B,), generator=g),
        "num_items_in_batch": completion_mask.sum(),
        "old_per_token_logps": -4 + torch.randn(B, REPLY, generator=g),
        "ref_per_token_logps": -4 + torch.randn(B, REPLY, generator=g),
    }
    if tool_mask:
        inputs["tool_mask"] = torch.randint(2, (B, REPLY), generator=g)
    return inputs


def loss_and_gradients(trainer, inputs):
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1  # set by train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in trainer.model.parameters()]


SETTINGS = [{"loss_type": kind} for kind in ("dapo", "grpo", "dr_grpo", "bnpo", "cispo", "sapo")]
SETTINGS += [{"importance_sampling_level": "sequence"}, {"beta": 0.1}, {"temperature": 0.7}]
SETTINGS += [{"top_entropy_quantile": 0.5}]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.items())))
def test_loss_and_gradients_are_trls(settings, tied, tmp_path):
    for tool_mask in (False, True):
        (theirs, grads), (ours, mine) = (
            loss_and_gradients(make(cls, tmp_path, tied, **settings), batch(tool_mask))
            for cls in (GRPOTrainer, Trainer)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        for x, y in zip(mine, grads, strict=True):
            assert (x - y).norm() <= 1e-5 * y.norm() + 1e-7


def test_environment_tokens_never_reach_the_head(tmp_path, monkeypatch):
    scored = []
    monkeypatch.setattr(
        integration,
        "linear_logprob",
        lambda h, w, t, **o: scored.append(len(t)) or linear_logprob(h, w, t, **o),
    )
    inputs = batch()
    loss_and_gradients(make(Trainer, tmp_path), inputs)
    assert scored == [int((inputs["completion_mask"] * inputs["tool_mask"]).sum())]


def trial(prompt_ids, won):
    """Two episodes with a reflection between them: reply tokens 7, environment tokens 8."""
    ids = [7, 7, 8, 7, 8, 7, 7, 7, TOKENIZER.eos_token_id]
    turns = [
        {"start": 0, "end": 2, "reward": 0.0, "episode": 0, "anchor": "a"},
        {"start": 3, "end": 4, "reward": 0.0, "episode": 1, "phase": 1, "anchor": "note"},
        {"start": 5, "end": 9, "reward": float(won), "episode": 1, "anchor": "a"},
    ]
    return {
        "prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": [-1.0] * len(ids),
        "env_mask": [int(i != 8) for i in ids], "turns": turns,
    }  # fmt: skip


def rollout(prompts, trainer):
    rows = [trial(trainer.processing_class(p)["input_ids"], won=i % 2) for i, p in enumerate(prompts)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_a_multi_turn_rollout_gets_the_credit_of_its_turns(tmp_path, monkeypatch):
    trainer = make(Trainer, tmp_path, rollout_func=rollout)
    seen = []
    compute = trainer._compute_loss
    monkeypatch.setattr(
        trainer, "_compute_loss", lambda model, inputs: seen.append(inputs) or compute(model, inputs)
    )
    trainer.train()
    (inputs,) = seen
    turns = trainer._turns
    wanted = turn_advantages(turns, [0, 0, 1, 1], estimator="grpo", gamma_traj=0.5)
    got = sorted(row[[0, 3, 5]].tolist() for row in inputs["advantages"])  # TRL has shuffled the rows
    assert got == [pytest.approx(x.tolist()) for x in sorted(wanted, key=list)]
    assert bool((inputs["advantages"][:, [2, 4]] == 0).all())
    assert any(bool(x[0] > 0) for x in wanted)  # the first episode of the trial that wins later


def test_generation_and_other_calls_are_the_models_own(tmp_path):
    trainer, plain = make(Trainer, tmp_path), tiny_qwen()
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(
        trainer.model.generate(ids, max_new_tokens=5, do_sample=False),
        plain.generate(ids, max_new_tokens=5, do_sample=False),
    )
    torch.testing.assert_close(trainer.model(ids, labels=ids).loss, plain(ids, labels=ids).loss)


def test_scaled_logits_are_refused():
    model = tiny_qwen()
    model.config.logit_scale = 0.5
    with pytest.raises(ValueError, match=r"logit_scale = 0\.5 of the model's logits must be 1"):
        integration.Head(model, 1.0)


@pytest.mark.parametrize("nothing", ["tool_mask", "completion_mask"])
def test_a_micro_batch_without_loss_tokens_is_a_differentiable_zero(nothing, tmp_path):
    """Otherwise that rank has no gradients to reduce, and the others wait for it (TRL PR 5575, 6859)."""
    inputs = batch()
    inputs[nothing] = torch.zeros_like(inputs[nothing])
    trainer = make(Trainer, tmp_path, tied=False, beta=0.1)
    loss, grads = loss_and_gradients(trainer, inputs)
    assert loss == 0 and len(grads) == len(list(trainer.model.parameters()))
    assert not any(bool(g.any()) for g in grads)


def with_adapter(cls, folder, targets):
    """The second matrix of an adapter starts at 0, and the first would get no gradient."""
    adapter = LoraConfig(r=4, target_modules=targets, init_lora_weights="gaussian")
    trainer = make(cls, folder, tied=False, peft_config=adapter)
    g = torch.Generator().manual_seed(2)
    for name, p in trainer.model.named_parameters():
        if "lora_B" in name:
            p.data = 0.1 * torch.randn(p.shape, generator=g)
        elif "lora_A" in name:
            p.data = 0.3 * torch.randn(p.shape, generator=g)
    return trainer


def test_a_tuned_prompt_trains_as_trls(tmp_path):
    """Its rows are longer by the virtual tokens (TRL PR 6186)."""
    results = []
    for cls in (GRPOTrainer, Trainer):
        prompt = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
        trainer = make(cls, tmp_path, peft_config=prompt)
        (tuned,) = (p for p in trainer.model.parameters() if p.requires_grad)
        tuned.data = torch.randn(tuned.shape, generator=torch.Generator().manual_seed(3))
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.compute_loss(trainer.model, batch())
        results.append((loss.detach(), *torch.autograd.grad(loss, tuned)))
    for ours, theirs in zip(*reversed(results), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm() + 1e-7


def test_an_adapted_trunk_trains_as_trls(tmp_path):
    results = []
    for cls in (GRPOTrainer, Trainer):
        trainer = with_adapter(cls, tmp_path, ["q_proj", "v_proj"])
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer.compute_loss(trainer.model, batch())
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in trainer.model.parameters() if p.requires_grad)])
    assert len(results[0]) == 9 and all(bool(g.any()) for g in results[0])
    for ours, theirs in zip(*reversed(results), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm() + 1e-7


def test_an_adapted_head_is_refused(tmp_path):
    """Its weight alone would be scored, and the adapter never trained (TRL#4612)."""
    trainer = make(Trainer, tmp_path, tied=False)
    get_peft_model(trainer.model, LoraConfig(r=2, target_modules=["lm_head"]))
    with pytest.raises(ValueError, match="lm_head is a Linear of peft, whose weight leaves its adapter out"):
        loss_and_gradients(trainer, batch())
