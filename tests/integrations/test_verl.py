"""verl with our estimators, losses and head, against its own, values and gradients; no cluster is started."""

import logging

import numpy as np
import pytest
import torch

pytest.importorskip("verl", reason="needs verl: make test-integrations")

from verl import DataProto
from verl.models.transformers.monkey_patch import patch_forward_with_backends
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.utils.experimental import torch_functional
from verl.workers.config import ActorConfig

THEIR_HEAD = torch_functional.FusedLinearForPPO.forward

from lamer_kernels.integrations import verl as integration  # noqa: E402, it patches the head
from lamer_kernels.integrations.padded import LossTokens  # noqa: E402
from lamer_kernels.integrations.rows import weights  # noqa: E402

B, L = 24, 7


def rows(seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = (torch.arange(L) < torch.randint(1, L + 1, (B, 1), generator=g)).float()
    rewards = torch.zeros(B, L)
    rewards[torch.arange(B), mask.sum(1).long() - 1] = torch.randint(0, 2, (B,), generator=g).float()
    uid = np.array([f"q{i % 5}" for i in range(B - 1)] + ["alone"], dtype=object)
    return {"token_level_rewards": rewards, "response_mask": mask}, {"uid": uid}


PAIRS = [("grpo", "lamer_grpo", True), ("grpo", "lamer_grpo", False), ("rloo", "lamer_rloo", True)]


@pytest.mark.parametrize(("theirs", "ours", "by_std"), [*PAIRS, ("grpo_vectorized", "lamer_grpo", True)])
def test_advantages_by_name(theirs, ours, by_std):
    config = {"norm_adv_by_std_in_grpo": by_std}
    data = [DataProto.from_dict(*rows()) for _ in range(2)]
    a, b = (
        compute_advantage(x, name, config=config, norm_adv_by_std_in_grpo=by_std).batch["advantages"]
        for x, name in zip(data, (theirs, ours), strict=True)
    )
    torch.testing.assert_close(b, a, rtol=1e-5, atol=2e-6)


MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")


@pytest.mark.parametrize("correction", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["clip", "cispo", "gspo"])
@pytest.mark.parametrize("info", [{}, {"dp_size": 2, "batch_num_tokens": 77, "global_batch_size": 30}])
def test_losses_by_name(kind, mode, correction, info):
    g = torch.Generator().manual_seed(0)
    mask = torch.randint(2, (B, L), generator=g)
    mask[3] = 0
    old, new = (-2 + torch.randn(B, L, generator=g) for _ in range(2))
    advantages = torch.randn(B, L, generator=g)
    weights = torch.rand(B, L, generator=g) * 2 if correction else None
    config = ActorConfig(
        strategy="fsdp", clip_ratio=0.2, clip_ratio_low=0.1, clip_ratio_high=0.3, clip_ratio_c=3.0,
        rollout_n=1, ppo_micro_batch_size_per_gpu=1,
    )  # fmt: skip
    config.global_batch_info.update(info)
    results = []
    for name in ({"clip": "vanilla"}.get(kind, kind), f"lamer_{kind}"):
        x = new.clone().requires_grad_()
        out, metrics = core_algos.get_policy_loss_fn(name)(old, x, advantages, mask, mode, config, weights)
        results.append((out.detach(), *torch.autograd.grad(out, x), metrics))
    (theirs, grad, metrics), (ours, mine, our_metrics) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine, grad, rtol=1e-5, atol=1e-6)
    for name, value in our_metrics.items():
        assert value == pytest.approx(metrics[name], abs=1e-5)


def test_an_unknown_aggregation_is_refused():
    tokens = LossTokens(torch.ones(2, 3))
    with pytest.raises(ValueError, match="loss_agg_mode must be one of five, got 'mean'"):
        weights("mean", tokens)


def head_case(shape, dtype):
    g = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(*shape, 16, generator=g), torch.randn(50, 16, generator=g)
    ids = torch.randint(50, shape, generator=g)
    return [x.to(dtype).requires_grad_() for x in (hidden, weight)], ids, torch.randn(shape, generator=g)


@pytest.mark.parametrize("shape", [(40,), (3, 13)])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_head(shape, dtype, limit):
    head = torch_functional.FusedLinearForPPO(chunk_size=8)
    assert type(head).forward is integration.head_forward
    results = []
    for forward in (THEIR_HEAD, integration.head_forward):
        (hidden, weight), ids, upstream = head_case(shape, dtype)
        logprobs, entropy = forward(head, hidden, weight, ids, 0.7)
        grads = torch.autograd.grad((logprobs * upstream).sum() + entropy.float().sum(), (hidden, weight))
        results.append((logprobs, entropy, *grads))
    for theirs, ours in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert (ours - theirs).float().norm() <= limit * theirs.float().norm()


def test_head_behind_a_patched_model():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.Qwen2ForCausalLM(config)
    ids = torch.randint(60, (2, 9), generator=torch.Generator().manual_seed(1))
    logits = model(ids).logits / 0.7
    patch_forward_with_backends(model, use_fused_kernels=True, fused_kernels_backend="torch")
    out = model(input_ids=ids, return_dict=True, temperature=0.7)
    wanted = logits.log_softmax(-1).gather(-1, ids.roll(-1, 1)[..., None])[..., 0]
    torch.testing.assert_close(out.log_probs, wanted, rtol=1e-5, atol=1e-5)


def meta_rows():
    """2 groups of 2 trials of 2 episodes: 2 turns, a reflection, 2 turns; rows in another order."""
    plan = [(0, 0, "a"), (0, 0, "b"), (1, 1, "note"), (1, 0, "a"), (1, 0, "c")]
    records = [(q, f"{q}{t}", *turn) for q in ("x", "y") for t in range(2) for turn in plan]
    order = np.random.default_rng(0).permutation(4)
    records = [records[5 * t + i] for i in range(5) for t in order]
    names = ("uid", "trial", "episode", "phase", "anchor")
    columns = {
        name: np.array(x, dtype=object) for name, x in zip(names, zip(*records, strict=True), strict=True)
    }
    rewards = torch.zeros(20, 3)
    rewards[:, -1] = torch.from_numpy(
        np.random.default_rng(1).integers(0, 2, 20) * (columns["phase"] == 0).astype(int)
    )
    return rewards, torch.ones(20, 3), columns


def test_credit_of_turns():
    rewards, mask, columns = meta_rows()
    advantages, _ = core_algos.get_adv_estimator_fn("lamer_meta")(
        rewards, mask, columns["uid"], config={"lamer": {"gamma_traj": 0.5}}, non_tensor_batch=columns
    )
    for trial in set(columns["trial"]):
        own = columns["trial"] == trial
        # the first episode of a trial gets credit for the second one: not what its own reward alone says
        assert len(advantages[own][:, 0].unique()) > 1
    per_group = [advantages[columns["uid"] == q][:, 0].sum() for q in ("x", "y")]
    assert all(abs(float(x)) < 1e-5 for x in per_group)  # both brackets are centred


def test_credit_of_turns_says_what_is_missing():
    rewards, mask, columns = meta_rows()
    with pytest.raises(ValueError, match="needs non_tensor_batch with trial"):
        core_algos.get_adv_estimator_fn("lamer_meta")(rewards, mask, columns["uid"])


def test_another_signature_keeps_verls_head(monkeypatch, caplog):
    def forward(self, hidden, weight, ids, temperature=1.0, mask=None):
        raise AssertionError

    monkeypatch.setattr(torch_functional.FusedLinearForPPO, "forward", forward)
    with caplog.at_level(logging.WARNING):
        integration.register()
    assert torch_functional.FusedLinearForPPO.forward is forward
    assert "its head stays" in caplog.text


@pytest.mark.parametrize("kind", ["clip", "cispo", "gspo", "sapo", "dppo", "dppo_kl"])
def test_a_micro_batch_without_loss_tokens_is_a_differentiable_zero(kind):
    config = ActorConfig(
        strategy="fsdp", clip_ratio=0.2, clip_ratio_c=3.0, rollout_n=1, ppo_micro_batch_size_per_gpu=1
    )
    x = torch.randn(B, L, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, _ = core_algos.get_policy_loss_fn(f"lamer_{kind}")(
        x.detach(), x, torch.ones(B, L), torch.zeros(B, L), "token-mean", config, None
    )
    assert loss.item() == 0 and not torch.autograd.grad(loss, x)[0].any()


def test_a_head_without_tokens_still_has_gradients():
    (hidden, weight), ids, _ = head_case((0,), torch.float32)
    logprobs, entropy = integration.head_forward(None, hidden, weight, ids, 1.0)
    grads = torch.autograd.grad(logprobs.sum() + entropy.sum(), (hidden, weight))
    assert logprobs.shape == entropy.shape == (0,) and not grads[1].any()
