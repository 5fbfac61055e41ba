"""success@k against hand counts and against the definition of pass@k as an average over subsets."""

from itertools import combinations

import numpy as np
import pytest

from lamer_fast.eval.success import compare, pass_at, success_within


def test_pass_at_is_the_average_over_all_subsets():
    rng = np.random.default_rng(0)
    successes = rng.random((50, 4)) < 0.4
    for k in range(1, 5):
        subsets = [successes[:, list(s)].any(axis=1) for s in combinations(range(4), k)]
        np.testing.assert_allclose(pass_at(successes)[:, k - 1], np.mean(subsets, axis=0), atol=1e-12)


def test_success_within_counts_from_the_first_win_on():
    won = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(success_within(won), [[0, 1, 1], [1, 1, 1], [0, 0, 0]])


def test_a_trial_that_only_repeats_itself_gains_nothing():
    rng = np.random.default_rng(1)
    skill = rng.random((4000, 1))
    trials, attempts = rng.random((4000, 3)) < skill, rng.random((4000, 3)) < skill
    gain = compare("test", trials, attempts).gain_over_independent
    assert gain.low < 0 < gain.high


def test_unpaired_boards_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\) and attempts \(2, 2\)"):
        compare("test", np.zeros((3, 2), bool), np.zeros((2, 2), bool))
