"""Losses and estimators that other packages register, used by name; a package as pip would leave it."""

import sys

import numpy as np
import pytest
import torch

from lamer_kernels import LamerHead, linear_policy_loss, meta_advantages, policy_loss

CODE = """
import torch

def softer(logprobs, old_logprobs, advantages, power=1.0):
    return -advantages * (power * (logprobs - old_logprobs)).exp()

def short(logprobs, old_logprobs, advantages):
    return logprobs[1:]

def even(rewards, phase, episode, group, cu_trials, *, anchors=None, valid=None, height=1.0):
    assert isinstance(rewards, torch.Tensor)
    return torch.full_like(rewards, height) * (1 if valid is None else valid)

nothing = 3
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(package, group, *lines):
        (tmp_path / f"{package}.py").write_text(CODE)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[lamer_kernels.{group}]", *lines]) + "\n")

    return put


def tokens(dtype=torch.float64, size=11):
    g = torch.Generator().manual_seed(3)
    new, old = (-2 * torch.rand(size, generator=g, dtype=dtype) for _ in range(2))
    advantages, weights = (
        torch.randn(size, generator=g, dtype=dtype),
        torch.rand(size, generator=g, dtype=dtype),
    )
    weights[2] = 0
    return new, old, advantages, weights


def test_a_loss_by_name_is_ours_of_the_same_formula(install):
    """-A r is clip without bounds, so every term beside it can be compared."""
    install("their_softer", "losses", "softer = their_softer:softer")
    new, old, advantages, weights = tokens()
    new[2] = 2000.0  # a ratio that overflows, of weight 0
    common = dict(
        token_weights=weights, ref_logprobs=old - 0.1, kl_coef=0.3, importance_weights=weights + 0.5,
        entropy_coef=0.2,
    )  # fmt: skip
    results = []
    for options in ({"loss": "softer"}, {"loss": "clip", "clip_low": 1.0, "clip_high": float("inf")}):
        x, entropy = new.clone().requires_grad_(), (new**2).requires_grad_()
        out = policy_loss(x, old, advantages, entropy=entropy, **common, **options)
        results.append((*out, *torch.autograd.grad(out.loss * 1.7, (x, entropy))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs, ours)
    assert results[0][-1].isfinite().all() and results[0][-2].isfinite().all()
    squared = policy_loss(
        new, old, advantages, token_weights=weights, loss="softer", loss_options={"power": 2.0}
    )
    keep = weights != 0
    wanted = (-advantages * weights * (2 * (new - old)).exp())[keep].sum()
    torch.testing.assert_close(squared.loss, wanted)


@pytest.mark.parametrize("labels", [False, True], ids=["all", "some absent"])
def test_a_loss_by_name_behind_the_head(install, labels):
    install("their_head", "losses", "headed = their_head:softer")
    _, old, advantages, weights = tokens(torch.float32)
    g = torch.Generator().manual_seed(5)
    hidden, weight = torch.randn(11, 8, generator=g), torch.randn(17, 8, generator=g)
    targets = torch.randint(17, (11,), generator=g)
    if labels:
        targets[4] = -100
    results = []
    for options in ({"loss": "headed"}, {"loss": "clip", "clip_low": 1.0, "clip_high": float("inf")}):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
        out = linear_policy_loss(*leaves, targets, old, advantages, token_weights=weights, **options)
        results.append((*out[:6], *torch.autograd.grad(out.loss, leaves)))
    kept = targets != -100
    for name, theirs, ours in zip([*out._fields[:6], "dhidden", "dweight"], *results, strict=True):
        rows = kept & (weights != 0) if theirs.shape == targets.shape else ...
        torch.testing.assert_close(theirs[rows], ours[rows], rtol=1e-5, atol=1e-6, msg=name)
    head = LamerHead(8, 17, bias=False)
    assert head(hidden, targets, old, advantages, loss="headed").loss.requires_grad


def test_an_estimator_by_name(install):
    install("their_even", "estimators", "even = their_even:even")
    rewards, column = np.arange(4, dtype=np.float32), np.zeros(4, np.int64)
    call = (rewards, column, column, column, np.array([0, 2, 4]))
    out = meta_advantages(*call, estimator="even", estimator_options={"height": 2.5})
    assert out.dtype == np.float32 and (out == 2.5).all()
    out = meta_advantages(*call, estimator="even", valid=np.array([True, False, True, True]))
    assert out.tolist() == [1, 0, 1, 1]
    with pytest.raises(ValueError, match=r"gamma_step does not reach estimator = 'even'.* got 0\.5"):
        meta_advantages(*call, estimator="even", gamma_step=0.5)
    with pytest.raises(ValueError, match=r"estimator must be one of .*'gigpo'.*'even'.*got 'odd'"):
        meta_advantages(*call, estimator="odd")
    with pytest.raises(ValueError, match="estimator_options go with"):
        meta_advantages(*call, estimator="grpo", estimator_options={"height": 2.5})


def test_a_clash_names_both_packages_and_ours_come_first(install):
    install("one", "losses", "clashed = one:softer", "clip = one:softer")
    install("two", "losses", "clashed = two:softer")
    new, old, advantages, _ = tokens()
    with pytest.raises(ValueError, match=r"registered twice: one:softer of one and two:softer of two"):
        policy_loss(new, old, advantages, loss="clashed")
    policy_loss(new, old, advantages, loss="clip")
    assert "one" not in sys.modules and "two" not in sys.modules


def test_what_does_not_fit_is_refused(install):
    install(
        "their_bad",
        "losses",
        "short = their_bad:short",
        "nothing = their_bad:nothing",
        "fine = their_bad:softer",
    )
    new, old, advantages, _ = tokens()
    with pytest.raises(ValueError, match=r"'short' returned \(10,\) torch.float64, expected \(11,\)"):
        policy_loss(new, old, advantages, loss="short")
    with pytest.raises(TypeError, match="their_bad:nothing is no function, got int"):
        policy_loss(new, old, advantages, loss="nothing")
    with pytest.raises(ValueError, match=r"clip_high does not reach loss = 'fine'.* got 0\.3.*loss_options"):
        policy_loss(new, old, advantages, loss="fine", clip_high=0.3)
    with pytest.raises(ValueError, match=r"loss must be one of .*'clip'.*'fine'.*got 'finer'"):
        policy_loss(new, old, advantages, loss="finer")
    with pytest.raises(ValueError, match="loss_options go with a loss that another package registers"):
        policy_loss(new, old, advantages, loss_options={})
    with pytest.raises(ValueError, match="dweight_out does not reach"):
        head = (torch.randn(11, 4), torch.randn(7, 4), torch.zeros(11, dtype=torch.int64))
        given = (old.float(), advantages.float())
        linear_policy_loss(*head, *given, loss="fine", dweight_out=torch.zeros(7, 4))
