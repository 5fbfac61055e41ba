"""The losses that verl has under the same name, against verl's functions: values and gradients."""

import importlib

import pytest
import torch

pytest.importorskip("verl", reason="needs verl: make test-integrations")

from verl.trainer.ppo import core_algos, rollout_corr_helper
from verl.workers.config import ActorConfig

from lamer_kernels import importance_weights, policy_loss
from lamer_kernels.integrations.padded import LossTokens
from lamer_kernels.integrations.rows import weights

B, L = 24, 7


def case(per_token_advantages):
    g = torch.Generator().manual_seed(0)
    mask = torch.randint(2, (B, L), generator=g)
    mask[:, 0] = 1
    old = -3 * torch.rand(B, L, generator=g)
    new = (old + 0.3 * torch.randn(B, L, generator=g)).clamp(max=-1e-3)
    advantages = (
        torch.randn((B, L) if per_token_advantages else (B, 1), generator=g).expand(B, L).contiguous()
    )
    return mask, old, new, advantages


def config(**settings):
    return ActorConfig(
        strategy="fsdp", clip_ratio=0.1, clip_ratio_low=0.05, clip_ratio_high=0.15, clip_ratio_c=20.0,
        rollout_n=1, ppo_micro_batch_size_per_gpu=1, **settings,
    )  # fmt: skip


# theirs, ours, aggregation, whether their advantages differ within a row
PAIRS = {
    "gspo": ("gspo", "gspo_token", "token-mean", True),
    "gspo by sequences": ("gspo", "gspo_token", "seq-mean-token-mean", True),
    "sapo": ("sapo", "sapo", "seq-mean-token-mean", True),
    "geo_mean": ("geo_mean", "gmpo", "seq-mean-token-mean", False),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_value_and_gradient(pair):
    theirs, ours, mode, per_token = PAIRS[pair]
    mask, old, new, advantages = case(per_token)
    settings = config(tau_pos=1.0, tau_neg=1.05)
    x = new.clone().requires_grad_()
    value, _ = core_algos.get_policy_loss_fn(theirs)(old, x, advantages, mask, mode, settings)
    (gradient,) = torch.autograd.grad(value, x)
    y, tokens = new.clone().requires_grad_(), LossTokens(mask)
    out = policy_loss(
        tokens.take(y), tokens.take(old), tokens.take(advantages), token_weights=weights(mode, tokens),
        cu_segments=None if ours == "sapo" else tokens.cu_rows, loss=ours, clip_low=0.05, clip_high=0.15,
    )  # fmt: skip
    torch.testing.assert_close(out.loss.detach(), value.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*torch.autograd.grad(out.loss, y), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("theirs", "ours"), [("dppo_tv", "dppo"), ("dppo_kl", "dppo_kl")])
def test_dppo_has_verls_gradient(theirs, ours):
    """verl's value is A stop(r) logprob, whose gradient is ours while r stays below its cap."""
    mask, old, new, advantages = case(True)
    x = new.clone().requires_grad_()
    value, metrics = core_algos.get_policy_loss_fn(theirs)(old, x, advantages, mask, "token-mean", config())
    (gradient,) = torch.autograd.grad(value, x)
    y, tokens = new.clone().requires_grad_(), LossTokens(mask)
    out = policy_loss(
        tokens.take(y), tokens.take(old), tokens.take(advantages),
        token_weights=weights("token-mean", tokens), loss=ours, clip_low=0.05, clip_high=0.15,
    )  # fmt: skip
    torch.testing.assert_close(*torch.autograd.grad(out.loss, y), gradient, rtol=1e-5, atol=1e-6)
    share = float(out.clipped.float().mean())
    assert share > 0 and share == pytest.approx(metrics["actor/pg_clipfrac"])


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_the_losses_by_covariance(name, monkeypatch):
    """verl's own function on the same draw: whichever of the candidates come first."""
    monkeypatch.setattr(torch, "randperm", lambda n, generator=None: torch.arange(n))
    importlib.import_module("lamer_kernels.integrations.verl")  # registers our names
    mask, old, new, advantages = case(True)
    settings = config()
    shares = {
        "clip_cov_ratio": 0.1,
        "clip_cov_lb": 0.05,
        "clip_cov_ub": 3.0,
        "kl_cov_ratio": 0.1,
        "ppo_kl_coef": 0.7,
    }
    for key, value in shares.items():
        object.__setattr__(settings.policy_loss, key, value)
    found = {}
    for loss in (name, f"lamer_{name}"):
        x = new.clone().requires_grad_()
        compute = core_algos.get_policy_loss_fn(loss)
        value, metrics = compute(old, x, advantages, mask, "token-mean", settings)
        found[loss] = (value.detach(), torch.autograd.grad(value, x)[0], metrics["actor/ppo_kl"])
        found[loss] += (metrics.get("actor/pg_clipfrac", 0.0),)
    for theirs, ours in zip(*found.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    plain = core_algos.get_policy_loss_fn("lamer_clip")(old, new, advantages, mask, "token-mean", settings)[0]
    assert abs(plain - found[name][0]) > 1e-4


# verl's switches, ours
CORRECTIONS = [
    ({"rollout_is": "token", "rollout_is_threshold": 1.3}, {"high": 1.3}),
    ({"rollout_is": "token", "rollout_is_threshold": "0.8_1.3"}, {"low": 0.8, "high": 1.3, "beyond": "zero"}),
    ({"rollout_is": "sequence", "rollout_is_threshold": 1.3}, {"level": "sequence", "high": 1.3}),
    (
        {"rollout_is": "sequence", "rollout_is_threshold": "0.8_1.3"},
        {"level": "sequence", "low": 0.8, "high": 1.3, "beyond": "zero"},
    ),
]


@pytest.mark.parametrize(("theirs", "ours"), CORRECTIONS)
def test_importance_weights_are_verls(theirs, ours):
    mask, rollout, old, _ = case(True)
    wanted, _ = rollout_corr_helper.compute_rollout_correction_weights(old - rollout, mask, **theirs)
    found = importance_weights(old, rollout, loss_mask=mask, **ours)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "level"), [("token", "token"), ("seq_sum", "sequence"), ("seq_mean", "geometric")]
)
def test_masks_are_verls_rejections(name, level):
    """verl bounds the inverse of the ratio."""
    mask, rollout, old, _ = case(True)
    wanted, _ = rollout_corr_helper.compute_rollout_rejection_mask(
        old - rollout, mask, f"{name}_k1", "0.8_1.3"
    )
    found = importance_weights(
        old, rollout, loss_mask=mask, level=level, low=1 / 1.3, high=1 / 0.8, beyond="mask"
    )
    assert torch.equal(found.bool(), wanted.bool()) and 0 < wanted.sum() < mask.sum()
