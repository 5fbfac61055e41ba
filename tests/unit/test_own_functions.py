"""An estimator and a loss of the user's own, and pass_at_k: reachable by name, checked before any work."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lamer_fast.algo.algorithm import check_own_functions
from lamer_fast.algo.credit import assign_credit, lone_turns
from lamer_fast.algo.losses import Surrogate, objective
from lamer_fast.algo.rehearsal import small_batch, small_trials
from lamer_fast.config import AlgoConfig, Config, RolloutConfig
from lamer_fast.config.schema import LOSSES
from lamer_kernels import linear_logprob
from lamer_kernels.head.policy import terms
from lamer_kernels.head.policy.covariance import COVARIANCE
from tests.hand_made import make_trials

MODULE = """
import numpy as np
import torch

def by_group(trials, algo): return (trials.rewards - trials.rewards.mean()).astype(np.float32)
def too_few(trials, algo): return np.zeros(len(trials.rewards) - 1, np.float32)
def integers(trials, algo): return np.zeros(len(trials.rewards), np.int64)
def a_list(trials, algo): return [0.0] * len(trials.rewards)
def infinite(trials, algo): return np.full(len(trials.rewards), np.inf, np.float32)
def one(trials): return trials.rewards
def raises(trials, algo): return trials.nothing
def whitens(trials, algo):
    trials.rewards -= trials.rewards.mean()
    return trials.rewards
number = 3

def reinforce(logprobs, batch, algo): return -batch.advantages * logprobs
def summed(logprobs, batch, algo): return logprobs.sum()
def double(logprobs, batch, algo): return logprobs.double()
def detached(logprobs, batch, algo): return logprobs.detach()
def nan(logprobs, batch, algo): return logprobs * float("nan")
def fails(logprobs, batch, algo): raise KeyError("mine")
def scales(logprobs, batch, algo): return -logprobs * batch.advantages.mul_(2)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    "function, message",
    [
        ("too_few", r"returned \(11,\) float32, expected \(12,\) float32, one per turn"),
        ("integers", r"returned \(12,\) int64, expected \(12,\) float32"),
        ("a_list", "returned list, expected"),
        ("infinite", "12 of 12 advantages are not finite"),
        ("one", r"takes \(trials\), expected a function of \(trials, algo\)"),
        ("raises", "raised AttributeError: .*nothing"),
        ("whitens", "raised ValueError: .*read-only"),
        ("number", "is int, expected a function"),
        ("missing", "has no 'missing', but by_group, too_few"),
    ],
)
def test_an_estimator_that_cannot_be_used_is_refused(own, function, message):
    name = f"{own}:{function}"
    with pytest.raises(ValueError, match=f"algo.estimator = '{name}'.*{message}"):
        check_own_functions(AlgoConfig(estimator=name))


@pytest.mark.parametrize(
    "function, message",
    [
        ("summed", r"returned \(\) torch.float32, expected \(8,\) torch.float32"),
        ("double", r"returned \(8,\) torch.float64"),
        ("detached", "does not depend on logprobs"),
        ("nan", "8 of 8 values are not finite"),
        ("fails", "raised KeyError"),
        ("scales", "changes advantages in place"),
        ("one", r"takes \(trials\), expected a function of \(logprobs, batch, algo\)"),
    ],
)
def test_a_loss_that_cannot_be_used_is_refused(own, function, message):
    name = f"{own}:{function}"
    with pytest.raises(ValueError, match=f"algo.loss = '{name}'.*{message}"):
        check_own_functions(AlgoConfig(loss=name))


def test_no_such_module_is_told_with_its_setting():
    for setting in ("estimator", "loss"):
        with pytest.raises(ValueError, match=f"algo.{setting} = 'not_here:f': no such module"):
            check_own_functions(AlgoConfig(**{setting: "not_here:f"}))


def test_own_advantages_are_those_of_the_function(own):
    algo, trials = AlgoConfig(estimator=f"{own}:by_group"), small_trials()
    check_own_functions(algo)
    expected = trials.rewards - trials.rewards.mean()
    np.testing.assert_array_equal(assign_credit(trials, algo), expected.astype(np.float32))
    assert not lone_turns(make_trials(groups=2, trials_per_group=1), algo).any()


@pytest.mark.parametrize("changes", [{}, {"entropy_coef": 0.0}, {"kl_coef": 0.3}])
def test_an_own_loss_with_its_terms_equals_the_surrogate(own, changes):
    ours = replace(AlgoConfig(loss="reinforce", entropy_coef=0.1), **changes)
    theirs = replace(ours, loss=f"{own}:reinforce")
    g = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(8, 16, generator=g), torch.randn(12, 16, generator=g)
    batch = small_batch()
    old = linear_logprob(hidden, weight, batch.packed.targets).logprobs
    results = []
    for algo in (ours, theirs):
        x, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        out = objective(algo)(x, w, replace(batch, old_logprobs=old + 0.1), None)
        out.loss.backward()
        results.append((out.loss.detach(), x.grad, w.grad, out.logprobs, out.entropy, out.kl, out.ratio))
    assert isinstance(objective(ours), Surrogate)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_pass_at_k_over_episodes_by_hand():
    """Both groups: one trial of two won in its second episode. k = 1 looks at first episodes alone."""
    trials = small_trials()
    second = assign_credit(trials, AlgoConfig(estimator="pass_at_k"))
    np.testing.assert_allclose(second, np.repeat([1.0, -1.0, -1.0, 1.0], 3))
    assert not assign_credit(trials, AlgoConfig(estimator="pass_at_k", pass_k=1)).any()


def test_pass_at_k_over_trials_by_hand():
    """k = n = 2: only a win that the other trial lacks counts; k = 1 is the mean of the others subtracted."""
    trials = small_trials()
    algo = AlgoConfig(estimator="pass_at_k", pass_over="trials")
    np.testing.assert_allclose(assign_credit(trials, algo), np.repeat([2.0, 0.0, 0.0, 2.0], 3))
    trials.success_by_episode[1, 1] = True
    both = assign_credit(trials, algo)[:6]
    assert not both.any()


def test_pass_at_k_leaves_out_groups_with_fewer_than_k_trials():
    trials = make_trials(0, groups=2, trials_per_group=3, empty=(1,))
    algo = AlgoConfig(estimator="pass_at_k", pass_over="trials", pass_k=3)
    lone = lone_turns(trials, algo)
    assert set(trials.group[lone]) == {0} and set(trials.group[~lone]) == {1}
    trials.success_by_episode[[0, 3], 0] = True
    advantages = assign_credit(trials, algo)
    assert not advantages[lone].any() and advantages[~lone].any()


@pytest.mark.parametrize(
    "algo, message",
    [
        (
            {"estimator": "gippo"},
            "algo.estimator = 'gippo', must be one of: gigpo, .*pass_at_k, opo; or module",
        ),
        ({"loss": "clop"}, "algo.loss = 'clop', must be one of: clip, .*; or module:function"),
        ({"pass_k": 2}, "algo.pass_k = 2 contradicts algo.estimator = 'gigpo'"),
        ({"pass_over": "trials"}, "algo.pass_over = 'trials' contradicts algo.estimator"),
        ({"estimator": "pass_at_k", "pass_k": 4}, "algo.pass_k = 4 contradicts rollout.episodes = 3"),
        (
            {"estimator": "pass_at_k", "pass_k": 9, "pass_over": "trials"},
            "algo.pass_k = 9 contradicts rollout.trials_per_group = 8",
        ),
        ({"estimator": "pass_at_k", "gamma_traj": 0.5}, "algo.gamma_traj = 0.5 contradicts algo.estimator"),
    ],
)
def test_settings_that_could_not_act_are_refused(algo, message):
    with pytest.raises(ValueError, match=message):
        Config(rollout=RolloutConfig(episodes=3, trials_per_group=8), algo=AlgoConfig(**algo)).validate()


def test_the_recipe_knows_the_losses_of_the_kernels():
    assert set(LOSSES) == {*terms.LOSSES, *COVARIANCE}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_named_loss_has_a_gradient(loss):
    g = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(8, 16, generator=g), torch.randn(12, 16, generator=g).requires_grad_()
    batch = small_batch()
    logprobs = linear_logprob(hidden, weight.detach(), batch.packed.targets).logprobs
    batch = replace(batch, old_logprobs=logprobs - 0.01)
    out = objective(AlgoConfig(loss=loss))(hidden, weight, batch, None)
    (gradient,) = torch.autograd.grad(out.loss, weight)
    assert gradient.isfinite().all() and gradient.any()
