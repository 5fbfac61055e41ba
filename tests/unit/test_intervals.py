"""Intervals of shares and of paired differences: hand counts, their ends, and how often they cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamer_fast.eval.intervals import difference, share

SHARES = st.lists(st.sampled_from([0.0, 1.0, 0.5, 1 / 3, 0.25]), min_size=1, max_size=60).map(np.array)
DIFFERENCES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60).map(np.array)


def wins(won, tasks):
    return np.r_[np.ones(won), np.zeros(tasks - won)]


@pytest.mark.parametrize(
    ("won", "tasks", "percent"),
    [
        (0, 4, (0.0, 49.0)), (3, 32, (3.2, 24.2)), (4, 4, (51.0, 100.0)), (1, 1, (20.7, 100.0)),
        (50, 100, (40.4, 59.6)), (0, 756, (0.0, 0.5)),
    ],
)  # fmt: skip
def test_independent_tasks_have_wilsons_interval(won, tasks, percent):
    e = share(wins(won, tasks))
    assert e.mean == won / tasks
    assert (round(100 * e.low, 1), round(100 * e.high, 1)) == percent


def test_wilsons_bounds_solve_their_equation():
    """They are the p whose normal test just rejects the found share: |share - p| = z sqrt(p (1 - p) / n)."""
    e = share(wins(7, 40))
    for p in (e.low, e.high):
        assert abs(7 / 40 - p) == pytest.approx(1.959964 * (p * (1 - p) / 40) ** 0.5, rel=1e-6)


@given(values=SHARES, repeats=st.integers(1, 4))
def test_a_share_stays_in_its_range_and_is_never_certain(values, repeats):
    e = share(values, repeats)
    assert 0 <= e.low <= e.mean <= e.high <= 1 and e.high - e.low > 1e-3
    mirrored = share(1 - values, repeats)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((e.low, e.high), abs=1e-9)


@given(values=DIFFERENCES)
def test_a_difference_stays_in_its_range_and_is_never_certain(values):
    e = difference(values)
    assert -1 <= e.low <= e.mean + 1e-9 and e.mean - 1e-9 <= e.high <= 1 and e.high - e.low > 1e-3
    mirrored = difference(-values)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((e.low, e.high), abs=1e-9)


def test_a_difference_of_single_trials_is_bonett_and_prices():
    """Of 40 tasks one side alone won 9, the other alone 3; with one more each the mean is (10 - 4) / 42."""
    e = difference(np.r_[np.ones(9), -np.ones(3), np.zeros(28)])
    up, down = 10 / 42, 4 / 42
    half = 1.959964 * ((up + down - (up - down) ** 2) / 42) ** 0.5
    assert (e.mean, e.low, e.high) == pytest.approx((6 / 40, up - down - half, up - down + half), rel=1e-6)


LEAST = 0.90  # near 0 and 1 Wilson's own rate at 8 tasks is 0.92; less three standard errors of 1,500 samples


def coverage(draw, interval, truth, seed, samples=1500):
    rng = np.random.default_rng(seed)
    found = [interval(draw(rng)) for _ in range(samples)]
    return np.mean([e.low <= truth <= e.high for e in found])


@pytest.mark.parametrize("tasks", [8, 32, 128])
@pytest.mark.parametrize("p", [0.01, 0.03, 0.1, 0.5, 0.9, 0.99])
def test_shares_cover_at_their_rate(tasks, p):
    """Single trials; three trials of tasks that differ in difficulty; three of tasks that do not."""

    def clusters(rng):
        return (rng.random((3, tasks)) < rng.beta(2 * p, 2 * (1 - p), tasks)).mean(axis=0)

    assert coverage(lambda rng: (rng.random(tasks) < p) * 1.0, share, p, seed=0) > LEAST
    assert coverage(clusters, lambda x: share(x, 3), p, seed=1) > LEAST
    assert (
        coverage(lambda rng: (rng.random((3, tasks)) < p).mean(0), lambda x: share(x, 3), p, seed=2) > LEAST
    )


@pytest.mark.parametrize("tasks", [8, 32, 128])
@pytest.mark.parametrize(("up", "down"), [(0.01, 0.01), (0.05, 0.0), (0.3, 0.1), (0.5, 0.5), (0.9, 0.0)])
def test_differences_cover_at_their_rate(tasks, up, down):
    def draw(rng):
        u = rng.random(tasks)
        return (u < up) * 1.0 - (u > 1 - down) * 1.0

    assert coverage(draw, difference, up - down, seed=3) > LEAST
