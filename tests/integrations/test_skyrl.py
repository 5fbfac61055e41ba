"""SkyRL with our estimators and losses, by name from its registries; no cluster is started."""

import sys
import typing

import pytest
import torch

if sys.version_info < (3, 12):  # pydantic refuses the standard library's before
    typing.TypedDict = pytest.importorskip("typing_extensions").TypedDict
pytest.importorskip("skyrl", reason="needs SkyRL: make test-integrations")
ppo = pytest.importorskip("skyrl.backends.skyrl_train.utils.ppo_utils", reason="needs SkyRL's requirements")

from skyrl.train.config import AlgorithmConfig  # noqa: E402, after its shim

from lamer_kernels.integrations import skyrl as integration  # noqa: E402

integration.register()
B, L = 24, 9


def rows(seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = (torch.arange(L) < torch.randint(1, L + 1, (B, 1), generator=g)).float()
    mask[3] = 0
    new = -0.05 - 2 * torch.rand(B, L, generator=g)
    old, rollout = ((new + 0.4 * torch.randn(B, L, generator=g)).clamp(max=-0.01) for _ in range(2))
    return mask, new, old, rollout, torch.randn(B, L, generator=g)


CORRECTIONS = [
    {}, {"tis_ratio_type": "token"}, {"tis_ratio_type": "sequence"},
    {"tis_ratio_type": "token", "token_mask_is_threshold_low": 0.7, "token_mask_is_threshold_high": 1.4},
    {"sequence_mask_metric": "geometric", "geo_mask_low": 0.9, "geo_mask_high": 1.1},
]  # fmt: skip


@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda c: "-".join(map(str, c.values())) or "none")
@pytest.mark.parametrize("name", [*integration.LOSSES, "dppo_kl"])
def test_losses_by_name(name, correction):
    mask, new, old, rollout, advantages = rows()
    config = AlgorithmConfig(policy_loss_type=name.removesuffix("_kl"), loss_reduction="sequence_mean")
    config.eps_clip_low, config.eps_clip_high, config.clip_ratio_c = 0.1, 0.15, 1.3
    config.dppo.delta_low, config.dppo.delta_high = 0.05, 0.08
    config.dppo.dppo_type = "binary_kl" if name == "dppo_kl" else "binary_tv"
    config.cispo.cispo_eps_clip_low, config.cispo.cispo_eps_clip_high = 0.1, 0.2
    for switch, value in correction.items():
        setattr(config.off_policy_correction, switch, value)
    results = []
    for prefix in ("", "lamer_"):
        x = new.clone().requires_grad_()
        loss, metrics = ppo.PolicyLossRegistry.get(prefix + name.removesuffix("_kl"))(
            x, old, advantages, config, mask, rollout if correction else None
        )
        results.append((loss.detach(), *torch.autograd.grad(loss, x), metrics))
    (theirs, grad, metrics), (ours, mine, our_metrics) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine, grad, rtol=1e-5, atol=1e-6)
    assert our_metrics == pytest.approx(metrics, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(("name", "by_std"), [("grpo", True), ("grpo", False), ("rloo", True)])
def test_estimators_by_name(name, by_std):
    mask = rows()[0]
    rewards = torch.zeros(B, L)
    rewards[:, 0] = torch.randint(0, 2, (B,), generator=torch.Generator().manual_seed(1)).float()
    uids = [f"q{i % 5}" for i in range(B - 1)] + ["alone"]
    a, b = (
        ppo.compute_advantages_and_returns(rewards, mask, uids, n, None, grpo_norm_by_std=by_std)[0]
        for n in (name, f"lamer_{name}")
    )
    torch.testing.assert_close(b, a, rtol=1e-5, atol=2e-6)


def test_registering_twice_changes_nothing():
    before = ppo.PolicyLossRegistry.get("lamer_regular")
    integration.register()
    assert ppo.PolicyLossRegistry.get("lamer_regular") is before


def test_registered_functions_travel():
    cloudpickle = pytest.importorskip("cloudpickle")
    for name in integration.LOSSES:
        assert cloudpickle.loads(cloudpickle.dumps(ppo.PolicyLossRegistry.get(f"lamer_{name}")))
