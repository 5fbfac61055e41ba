"""What does one optimisation step of verl's actor cost with its own fused head and loss, and with ours?

Runs in .venv-integrations (`make test-integrations`): a model whose forward verl has patched
(`use_fused_kernels`, back end "torch"), one layer of trunk under the head of Qwen2.5-0.5B (H = 896,
V = 151,936, tied), bfloat16, no entropy bonus. A step is forward with `FusedLinearForPPO`, the clipped policy
loss, backward and AdamW over `tokens`; the share is of the reply tokens whose loss counts (`response_mask`).
verl hands its head every position, prompts and masked tokens too, so ours scores them as well. Memory is the
peak of a step above what stays between steps; the gradient of the tied matrix (V H numbers) is in it.
"""

from typing import Any

import torch
from harness import Case, Row, compare, main
from transformers import Qwen2Config, Qwen2ForCausalLM
from verl.models.transformers.monkey_patch import patch_forward_with_backends
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.workers.config import ActorConfig

THEIR_HEAD = FusedLinearForPPO.forward

from lamer_kernels.integrations.verl import head_forward  # it patches the head

PROMPT, REPLY, VOCAB = 8, 248, 151_936
GOAL = 1.0  # times: never slower, never more memory
LIMIT = 3e-2  # bfloat16


def make_model() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCAB, hidden_size=896, intermediate_size=4864, num_hidden_layers=1,
        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = Qwen2ForCausalLM(config).to(torch.bfloat16)
    patch_forward_with_backends(model, use_fused_kernels=True, fused_kernels_backend="torch")
    return model.train()


def inputs(rows: int, share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids [B, prompt + reply]; mask, advantages and what an older policy adds to log-probs [B, reply]."""
    g = torch.Generator().manual_seed(1)
    mask = torch.zeros(rows * REPLY, dtype=torch.bool)
    mask[torch.randperm(rows * REPLY, generator=g)[: int(share * rows * REPLY)]] = True
    ids = torch.randint(VOCAB, (rows, PROMPT + REPLY), generator=g)
    advantages = torch.randn(rows, 1, generator=g).expand(rows, REPLY)
    # some ratios clipped, none so near a bound of the clip that bfloat16 decides on which side it is
    older = torch.tensor([-0.4, -0.1, 0.1, 0.4])[torch.randint(4, (rows, REPLY), generator=g)]
    return ids, mask.view(rows, REPLY), advantages, older


def bench(case: Case) -> list[Row]:
    model = make_model()
    ids, mask, advantages, older = inputs(case.tokens // (PROMPT + REPLY), case.share)
    targets = ids[:, PROMPT:][mask][:256]
    config = ActorConfig(strategy="fsdp", clip_ratio=0.2, rollout_n=1, ppo_micro_batch_size_per_gpu=1)
    config.global_batch_info.update(dp_size=1, batch_num_tokens=int(mask.sum()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, foreach=False)

    def logprobs(head: Any) -> torch.Tensor:
        FusedLinearForPPO.forward = head
        out = model(input_ids=ids, return_dict=True, use_cache=False)
        scores: torch.Tensor = out.log_probs[:, PROMPT - 1 : -1]
        return scores

    with torch.no_grad():
        old = logprobs(head_forward) + older

    def step(head: Any, loss: str) -> tuple[float, torch.Tensor, torch.Tensor]:
        value, _ = get_policy_loss_fn(loss)(
            old_log_prob=old, log_prob=logprobs(head), advantages=advantages, response_mask=mask,
            loss_agg_mode="token-mean", config=config,
        )  # fmt: skip
        value.backward()
        grad = model.lm_head.weight.grad
        seen = grad[targets].float(), grad[:256].float()  # rows of targets, and rows that all tokens share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.item(), *seen

    def close(a: Any, b: Any) -> bool:
        grads = zip(a[1:], b[1:], strict=True)
        return abs(a[0] - b[0]) <= LIMIT and all((x - y).norm() <= LIMIT * y.norm() for x, y in grads)

    step(head_forward, "lamer_clip")  # AdamW's state comes with the first step
    found = compare(
        {"lamer": lambda: step(head_forward, "lamer_clip"), "verl": lambda: step(THEIR_HEAD, "vanilla")},
        check=close, clock="process", mode="step", repeats=1, burst_s=0.0,
    )  # fmt: skip
    return found + ratios(*found)


def ratios(ours: Row, theirs: Row) -> list[Row]:
    found = []
    for metric, mine, other in (
        ("CPU time", ours.p50, theirs.p50),
        ("peak memory", ours.peak_memory_bytes, theirs.peak_memory_bytes),
    ):
        value = other / mine if mine and other else None
        found.append(Row("verl / lamer", metric, "x", value, value, value, 1, mode="step", goal=GOAL))
    return found


CASES = [
    Case(tokens=tokens, share=share)
    for tokens, share in ((1024, 0.25), (4096, 0.25), (1024, 1.0), (4096, 1.0))
]

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(bench, CASES)
