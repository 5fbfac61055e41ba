"""Triton kernels of the credit ops on the CPU: `TRITON_INTERPRET=1 pytest -m interpret`, its own process."""

from contextlib import suppress
from itertools import product

import numpy as np
import pytest
import torch

from lamer_kernels import (
    anchor_groups,
    cross_episode_returns,
    discounted_returns,
    gae,
    group_advantages,
    meta_advantages,
)
from lamer_kernels.credit.groups.op import group_op
from lamer_kernels.credit.returns.op import gae_op, returns_op
from lamer_kernels.credit.switches import Switches, resolve
from tests.kernels.credit import group_loop, make_trials, returns_loop, same_bits, table

pytestmark = pytest.mark.interpret


def turns(seed, dtype=np.float64, **sizes):
    made = make_trials(seed, dtype=dtype, **sizes)
    return [made[name] for name in ("rewards", "phase", "episode", "cu_trials")]


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("max_turns", [2, 5, 40])  # trials below, around and above one tile of 16 turns
def test_returns_match_the_sums(form, max_turns):
    columns = turns(0, groups=1, trials=4, max_turns=max_turns)
    out = cross_episode_returns(*columns, gamma_step=0.9, gamma_traj=0.7, return_form=form, backend="triton")
    np.testing.assert_allclose(out, returns_loop(*columns, 0.9, 0.7, form), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [15, 16, 17, 33])
def test_discounted_returns_at_tile_edges(length):
    rewards, cu_seqlens = np.arange(length, dtype=np.float32), np.array([0, 0, length, length])
    runs = [discounted_returns(rewards, cu_seqlens, gamma=0.5, backend=b) for b in ("triton", "reference")]
    np.testing.assert_allclose(*runs, rtol=1e-6)


def test_gae_matches_the_reference():
    columns = turns(1)
    values = np.random.default_rng(0).standard_normal(len(columns[0]))
    factors = {"gamma_step": 0.9, "gamma_traj": 0.7, "lambda_step": 0.8, "lambda_traj": 0.5}
    runs = [gae(columns[0], values, *columns[1:], **factors, backend=b) for b in ("triton", "reference")]
    for ours, theirs in zip(*runs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "switches",
    list(product(("trial", "episode", "turn"), ("mean", "leave_one_out"), ("none", "std", "batch_std"))),
    ids="-".join,
)
def test_groups_match_the_loop(switches):
    stats_unit, baseline, scale = switches
    rng = np.random.default_rng(0)
    num_rows = 150  # more segments than one block of lanes
    scores, group = rng.choice([0.0, 10.0, 0.1], num_rows), rng.integers(-70, 70, num_rows)
    trial, episode = rng.integers(0, 4, num_rows), rng.integers(0, 3, num_rows)
    unit = {"turn": range(num_rows), "trial": trial.tolist()}.get(
        stats_unit, list(zip(trial.tolist(), episode.tolist(), strict=True))
    )
    for include, singleton in ((None, "zero"), (rng.random(num_rows) < 0.7, "score")):
        same = {"baseline": baseline, "scale": scale, "singleton": singleton, "include": include}
        out = group_advantages(
            scores, group, trial=trial, episode=episode, stats_unit=stats_unit, backend="triton", **same
        )
        np.testing.assert_allclose(out, group_loop(scores, group, list(unit), **same), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", ["none", "std", "batch_std"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 1e200, 1e-200], ids=str)
def test_scores_at_the_ends_of_float64(scale, bad):
    scores, group = np.array([1.0, bad, -bad, 2.0, 2.0, 5.0, bad]), np.array([0, 0, 0, 1, 1, 1, 2])
    same = {"scale": scale, "eps": 0.0}
    runs = [group_advantages(scores, group, **same, backend=b) for b in ("triton", "reference", "cpu")]
    for run in runs[1:]:
        np.testing.assert_allclose(runs[0], run, rtol=1e-12)


def test_equal_scores_give_exactly_zero():
    scores, group = np.full(40, 0.1, np.float32), np.repeat([1, 2], 20)
    for baseline, scale in product(("mean", "leave_one_out"), ("none", "std", "batch_std")):
        out = group_advantages(scores, group, baseline=baseline, scale=scale, eps=0.0, backend="triton")
        assert not out.any()


def test_anchors_are_exact():
    low, high = -(2**63), 2**63 - 1
    keys = np.array([0, low, high, high - 1, 2**53, 2**53 + 1, 1 << 32, 2 << 32, -1, 2**32 - 1])
    anchors = np.concatenate([keys, keys[::-1], keys])
    group = np.concatenate([np.full(20, high), np.full(10, low)])
    runs = [anchor_groups(group, anchors, backend=b) for b in ("triton", "cpu")]
    assert same_bits(*runs) and runs[0].max() == 19


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {
            "episode_credit": "own",
            "return_form": "released",
            "reflection_score": "zero",
            "stats_unit": "turn",
        },
        {"reflection_score": "exclude", "scale": "std", "anchor_key": "board+episode"},
        {"estimator": "reinforce++", "stats_unit": "episode"},
        {"estimator": "rloo"},
    ],
    ids=str,
)
def test_meta_advantages_match_the_reference(switches):
    trials = make_trials(0, groups=2, trials=3, max_turns=3, dtype=np.float32)
    runs = [meta_advantages(**trials, **switches, backend=b) for b in ("triton", "reference", "triton")]
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-6, atol=1e-6)
    assert same_bits(runs[0], runs[2])


VALUES = {
    "estimator": ("gigpo", "gigpo", "grpo", "rloo", "reinforce++"),
    "episode_credit": ("cross", "own"),
    "return_form": ("paper", "released"),
    "reflection_score": ("next_return", "zero", "exclude"),
    "stats_unit": ("trial", "episode", "turn"),
    "baseline": (None, "mean", "leave_one_out"),
    "scale": (None, "none", "std"),
    "anchor_key": ("board", "board+episode"),
    "w": (1.0, 0.3),
    "gamma_step": (0.95, 1.0),
    "invalid_penalty": (0.5, 0.0),
}


def allowed_switches(count, seed=0):
    """Random switches that mean something together."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        switches = {name: values[rng.integers(len(values))] for name, values in VALUES.items()}
        named = switches | {"step_weight": switches["w"]}
        del named["w"]
        with suppress(ValueError):
            resolve(Switches(**named))
            found.append(switches)
    return found


def check_grouped(switches, again=False, **sizes):
    trials = make_trials(1, **sizes)
    cu = trials["cu_trials"]
    trials["cu_trials"] = np.concatenate([[0, 0], cu[1:4], cu[3:], cu[-1:]])  # trials of no turns
    runs = [meta_advantages(**trials, **switches, grouped=True, backend=b, validate=True)
            for b in ("triton", "reference", *["triton"] * again)]  # fmt: skip
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-9, atol=1e-10)
    assert same_bits(runs[0], runs[-1]) or not again


def test_grouped_trials_match_the_reference():
    chosen = allowed_switches(18)
    assert all({s[name] for s in chosen} == set(values) for name, values in VALUES.items())
    for switches in chosen:
        check_grouped(switches, groups=2, trials=2, max_turns=2)


def test_groups_of_several_tiles_match_the_reference():
    for switches in ({}, {"baseline": "leave_one_out", "scale": "std", "stats_unit": "episode"}):
        check_grouped(switches, again=True, groups=2, trials=3, max_turns=17)


@pytest.mark.slow
def test_grouped_trials_match_the_reference_on_every_switch():
    for switches in allowed_switches(150, seed=1):
        check_grouped(switches, groups=2, trials=3, max_turns=3)


def test_equal_groups_give_exactly_zero_without_a_sort():
    rewards, phase, episode, cu_trials = table([[[0.1, 0.7, 0.3]] * 2] * 4 + [[[0.3]]])
    columns = (rewards, phase, episode, np.repeat([3, -1], [len(rewards) - 1, 1]), cu_trials)
    for scale, unit in product(("none", "std"), ("trial", "episode", "turn")):
        out = meta_advantages(
            *columns, estimator="grpo", episode_credit="own", reflection_score="exclude", scale=scale,
            stats_unit=unit, grouped=True, backend="triton",
        )  # fmt: skip
        assert not out.any()


@pytest.mark.parametrize("scale", ["none", "std"])
@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e200])
def test_what_is_not_finite_stays_in_its_group(bad, scale):
    rewards, phase, episode, cu_trials = table([[[1.0, bad]], [[2.0]], [[0.5], [1.0]], [[3.0]]])
    group, anchors = np.repeat([5, 2], [3, 4]), np.array([1, 2, 1, 4, 0, 4, 4])
    columns = (rewards, phase, episode, group, cu_trials)
    runs = [meta_advantages(*columns, anchors=anchors, scale=scale, grouped=True, backend=b)
            for b in ("triton", "reference")]  # fmt: skip
    np.testing.assert_allclose(*runs, rtol=1e-9, atol=1e-12)
    assert np.isfinite(runs[0][3:]).all()


def test_empty():
    nothing = {name: x[:0] for name, x in make_trials(0).items()} | {"cu_trials": np.array([0])}
    for grouped in (False, True):
        assert meta_advantages(**nothing, grouped=grouped, backend="triton").shape == (0,)


def test_no_trials_and_trials_of_no_turns():
    rewards, nothing = np.zeros(5), np.zeros(0, np.int64)
    for backend in ("triton", "cpu", "reference"):
        with pytest.raises(ValueError, match="cu_seqlens must run from 0 to 5"):
            discounted_returns(rewards, np.array([0]), gamma=0.5, backend=backend)
        for cu in (np.array([0]), np.array([0, 0, 0])):
            assert discounted_returns(rewards[:0], cu, gamma=0.5, backend=backend).shape == (0,)
            columns = (rewards[:0], rewards[:0], nothing, nothing, cu)
            assert gae(*columns, gamma_step=0.9, gamma_traj=0.9, backend=backend)[0].shape == (0,)


def test_opcheck():
    columns = [torch.from_numpy(x) for x in turns(0, np.float32, groups=1, trials=2, max_turns=2)]
    torch.library.opcheck(returns_op, (*columns, 0.9, 0.7, "paper", "triton"))
    torch.library.opcheck(gae_op, (columns[0], columns[0], *columns[1:], 0.9, 0.7, 0.8, 0.5, "triton"))
    scores, group = columns[0], columns[1]
    torch.library.opcheck(
        group_op, (scores, group, None, None, None, "turn", "mean", "std", "zero", 1e-6, "triton")
    )
