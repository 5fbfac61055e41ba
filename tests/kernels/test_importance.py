"""importance_weights: by hand, over rows and packed, and inside a loss."""

import numpy as np
import pytest
import torch

from lamer_kernels import importance_weights, policy_loss

OLD = torch.tensor(
    [[2.0, 0.5, 9.0], [1.5, 4.0, 1.0]], dtype=torch.float64
).log()  # the ratios, of a sampler's 1
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
NONE = torch.zeros_like(OLD)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [[2, 0.5, 0], [1.5, 2, 1]]),
        ({"beyond": "zero", "low": 0.7, "high": 3}, [[2, 0, 0], [1.5, 0, 1]]),
        ({"beyond": "mask", "low": 0.7, "high": 3}, [[1, 0, 0], [1, 0, 1]]),
        ({"level": "sequence", "high": 5}, [[1, 1, 0], [5, 5, 5]]),
        ({"level": "sequence", "beyond": "zero", "high": 5}, [[1, 1, 0], [0, 0, 0]]),
        ({"level": "geometric", "high": float("inf")}, [[1, 1, 0], [6 ** (1 / 3)] * 3]),
        ({"level": "geometric", "beyond": "mask", "high": 1.5}, [[1, 1, 0], [0, 0, 0]]),
    ],
)
def test_by_hand_padded_and_packed(options, wanted):
    wanted = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(importance_weights(OLD, NONE, loss_mask=MASK, **options), wanted)
    kept = MASK.bool()
    sequences = {} if options.get("level", "token") == "token" else {"cu_sequences": torch.tensor([0, 2, 5])}
    packed = importance_weights(OLD[kept], NONE[kept], **sequences, **options)
    torch.testing.assert_close(packed, wanted[kept])
    given = (OLD.float().numpy(), NONE.float().numpy())
    same = importance_weights(*given, loss_mask=MASK.numpy(), **options)
    assert same.dtype == np.float32
    np.testing.assert_allclose(same, wanted, rtol=1e-6)


def test_what_is_masked_and_what_is_far_stays_finite():
    old = torch.tensor([float("nan"), 300.0, -300.0])
    out = importance_weights(old, torch.zeros(3), loss_mask=torch.tensor([0, 1, 1]), high=float("inf"))
    assert out[0] == 0 and out[1] == torch.tensor(20.0).exp() and 0 < out[2] < 1e-8


def test_a_loss_with_them_is_the_loss_without_what_they_mask():
    """IcePop: beyond its bounds a token has no pull; inside the ratio against the sampler weighs it."""
    g = torch.Generator().manual_seed(0)
    new, old, rollout = (-2 * torch.rand(40, generator=g, dtype=torch.float64) for _ in range(3))
    advantages = torch.randn(40, generator=g, dtype=torch.float64)
    new.requires_grad_()
    weights = importance_weights(old, rollout, low=0.5, high=2.0, beyond="zero")
    out = policy_loss(new, old, advantages, importance_weights=weights)
    ratio, against = (new - old).exp(), (old - rollout).exp()
    plain = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages) * against
    plain = plain[(against >= 0.5) & (against <= 2)].sum()
    torch.testing.assert_close(out.loss, plain)
    torch.testing.assert_close(*torch.autograd.grad(out.loss, new), *torch.autograd.grad(plain, new))


def test_settings_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match=r"low 3\.0 is above high 2\.0"):
        importance_weights(OLD, NONE, low=3)
    with pytest.raises(ValueError, match=r"level 'sequence' of shape \(6,\) needs cu_sequences"):
        importance_weights(OLD.flatten(), NONE.flatten(), level="sequence")
    with pytest.raises(ValueError, match="got level 'token'"):
        importance_weights(OLD, NONE, cu_sequences=torch.tensor([0, 3, 6]))
    with pytest.raises(ValueError, match="rollout_logprobs must have shape"):
        importance_weights(OLD, NONE[0])
