"""opo: by hand, and the property that names it."""

import numpy as np

from lamer_fast.algo.credit import assign_credit
from lamer_fast.config import AlgoConfig
from tests.hand_made import make_trials

OPO = AlgoConfig(estimator="opo")


def of_trials(trials):
    """Reward, sampled tokens and group of each trial."""
    rows = [np.flatnonzero(trials.trial == m) for m in range(trials.num_trials)]
    lengths = trials.token_end - trials.token_start
    return [(trials.rewards[r].sum(), lengths[r].sum(), trials.group[r[0]]) for r in rows], rows


def test_by_hand():
    trials = make_trials(3, groups=3, trials_per_group=4)
    facts, rows = of_trials(trials)
    advantages = assign_credit(trials, OPO)
    for (reward, _, group), turns in zip(facts, rows, strict=True):
        members = [(r, n) for r, n, g in facts if g == group]
        baseline = sum(r * n for r, n in members) / sum(n for _, n in members)
        np.testing.assert_allclose(advantages[turns], reward - baseline, rtol=1e-5, atol=1e-6)


def test_tokens_of_a_group_sum_to_zero():
    trials = make_trials(5, groups=2, trials_per_group=8)
    weights = trials.token_end - trials.token_start
    sums = np.bincount(trials.group, assign_credit(trials, OPO) * weights)
    np.testing.assert_allclose(sums, 0, atol=1e-3)
