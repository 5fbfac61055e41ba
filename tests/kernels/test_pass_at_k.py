"""pass_at_k_advantages: formulas, and unbiasedness by summing over every outcome."""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
import torch

from lamer_kernels import pass_at_k_advantages
from lamer_kernels.credit.pass_at_k.op import pass_at_k_op

BASELINES = ("none", "leave_one_out")


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (4, 2), (5, 5), (6, 3)])
def test_trials_match_the_mean_over_subsets(n, k, baseline):
    """Each k-subset gives its maximum, less that of the subset without i, to each of its members."""
    for success in product((False, True), repeat=n):
        weights = np.zeros(n)
        for subset in combinations(range(n), k):
            for i in subset:
                best = max(success[j] for j in subset)
                without = max((success[j] for j in subset if j != i), default=False)
                weights[i] += (best - (without if baseline == "leave_one_out" else 0)) / comb(n, k)
        out = pass_at_k_advantages(np.array(success), k, baseline=baseline)
        np.testing.assert_allclose(out, weights, atol=1e-15)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize(("n", "k"), [(4, 1), (4, 2), (5, 4)])
def test_trials_are_unbiased(n, k, baseline, p=0.3):
    """E[sum w d log p(x)/dp] over all outcomes is d/dp of 1 - (1 - p)^k."""
    total = 0.0
    for success in product((False, True), repeat=n):
        chance = np.prod([p if s else 1 - p for s in success])
        score = np.array([1 / p if s else -1 / (1 - p) for s in success])
        total += chance * (pass_at_k_advantages(np.array(success), k, baseline=baseline) * score).sum()
    np.testing.assert_allclose(total, k * (1 - p) ** (k - 1), rtol=1e-12)


def outcomes(num_episodes):
    """Every run that stops at its first success, as a row of `success` and the episodes it played."""
    for solved_at in range(num_episodes + 1):
        row = np.zeros(num_episodes, bool)
        row[solved_at : solved_at + 1] = True
        yield row, np.arange(num_episodes) <= solved_at


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_episodes_are_unbiased(k, baseline, p=(0.2, 0.5, 0.4)):
    """Episode n succeeds with p_n: the expected weight x score is d/dp_n of 1 - prod (1 - p_m)."""
    p = np.array(p)
    total = np.zeros(3)
    for runs in product(list(outcomes(3)), repeat=2):
        success, played = (np.stack(x) for x in zip(*runs, strict=True))
        chance = np.where(played, np.where(success, p, 1 - p), 1.0).prod()
        score = np.where(played, np.where(success, 1 / p, -1 / (1 - p)), 0.0)
        total += chance * (pass_at_k_advantages(success, k, over="episodes", baseline=baseline) * score).sum(
            0
        )
    failing = (1 - p)[:k].prod()
    np.testing.assert_allclose(total, np.where(np.arange(3) < k, failing / (1 - p), 0.0), atol=1e-12)


def test_episodes_after_success_or_beyond_k_weigh_nothing():
    success = np.array([[[False, True, False], [False, False, True]]])
    out = pass_at_k_advantages(success, 2, over="episodes")
    assert out.tolist() == [[[0.5, 0.5, 0.0], [-0.5, -0.5, 0.0]]]


@pytest.mark.parametrize("over", ["trials", "episodes"])
def test_equal_outcomes_of_all_trials_need_no_change_of_policy(over):
    for value in (False, True):
        success = np.full((2, 4, 3), value)
        out = pass_at_k_advantages(success, 2, over=over)
        assert not out.any()


def test_batch_dimensions_and_device_kind():
    success = np.random.default_rng(0).random((3, 2, 5)) < 0.4
    out = pass_at_k_advantages(torch.from_numpy(success), 2)
    assert out.dtype == torch.float64
    for index in np.ndindex(3, 2):
        assert out[index].tolist() == pass_at_k_advantages(success[index], 2).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(4), 1), "success must be bool, got float64"),
        ((np.zeros(4, bool), 5), r"k must lie in \[1, 4\], got 5"),
        ((np.zeros(4, bool), 0), "k must lie in"),
        (
            (np.zeros(4, bool), 1, "episodes"),
            r"success must have shape \[..., G, K\] over episodes, got \(4,\)",
        ),
        ((np.zeros((1, 4), bool), 1, "episodes"), "leave_one_out needs at least 2 trials of a task, got 1"),
        ((np.zeros(4, bool), 1, "turns"), "over must be one of"),
    ],
)
def test_bad_input_is_named(arguments, message):
    success, k, *over = arguments
    with pytest.raises(ValueError, match=message):
        pass_at_k_advantages(success, k, **({"over": over[0]} if over else {}))


def test_opcheck():
    success = torch.tensor([[True, False, False], [False, False, True]])
    torch.library.opcheck(pass_at_k_op, (success, 2, "trials", "leave_one_out"))
    torch.library.opcheck(pass_at_k_op, (success, 2, "episodes", "none"))


def test_a_backend_by_name_runs_or_is_refused():
    success = torch.tensor([True, False, False])
    outs = [pass_at_k_advantages(success, 2, backend=name) for name in ("auto", "cpu", "reference")]
    assert all(torch.equal(out, outs[0]) for out in outs)
    with pytest.raises(ValueError, match="backend must be one of"):
        pass_at_k_advantages(success, 2, backend="numba")
    with pytest.raises(ValueError, match="backend 'cpu' needs CPU tensors, got meta"):
        pass_at_k_advantages(success.to("meta"), 2, backend="cpu")
