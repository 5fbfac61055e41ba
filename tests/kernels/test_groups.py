"""group_advantages against loops written from its table, and the properties that it promises."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamer_kernels import group_advantages
from lamer_kernels.credit.groups.op import group_op
from tests.kernels.credit import BACKENDS, group_loop, same_bits

SWITCHES = list(
    product(("trial", "episode", "turn"), ("mean", "leave_one_out"), ("none", "std", "batch_std"))
)


def make_rows(seed, num_rows=60, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        "scores": rng.choice([0.0, 10.0, -0.5, 0.1], num_rows).astype(dtype),
        "group": rng.choice([-(2**63), -1, 0, 5, 2**63 - 1], num_rows),
        "trial": rng.integers(0, 6, num_rows),
        "episode": rng.integers(0, 3, num_rows).astype(np.int16),
    }


def units(rows, stats_unit):
    if stats_unit == "turn":
        return list(range(len(rows["scores"])))
    columns = [rows["trial"]] if stats_unit == "trial" else [rows["trial"], rows["episode"]]
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("switches", SWITCHES, ids="-".join)
def test_matches_the_loop(switches, backend):
    stats_unit, baseline, scale = switches
    for seed, num_rows in ((0, 60), (1, 7), (2, 1)):
        rows = make_rows(seed, num_rows)
        include = np.random.default_rng(seed).random(num_rows) < 0.7
        for singleton, mask in product(("zero", "score"), (None, include)):
            same = {"baseline": baseline, "scale": scale, "singleton": singleton, "include": mask}
            out = group_advantages(**rows, stats_unit=stats_unit, backend=backend, **same)
            expected = group_loop(rows["scores"], rows["group"], units(rows, stats_unit), **same)
            np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_named_estimators_on_whole_groups(backend):
    """GRPO, RLOO and REINFORCE++-baseline as their papers write them, one score per sample."""
    scores = np.random.default_rng(0).standard_normal((4, 8))
    group = np.repeat(np.arange(4), 8)
    centred = scores - scores.mean(1, keepdims=True)
    others = (scores.sum(1, keepdims=True) - scores) / 7
    expected = {
        ("mean", "std"): centred / (scores.std(1, ddof=1, keepdims=True) + 1e-6),
        ("mean", "none"): centred,
        ("leave_one_out", "none"): scores - others,
        ("mean", "batch_std"): centred / (centred.std(ddof=1) + 1e-6),
    }
    for (baseline, scale), advantages in expected.items():
        out = group_advantages(scores.ravel(), group, baseline=baseline, scale=scale, backend=backend)
        np.testing.assert_allclose(out, advantages.ravel(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("switches", SWITCHES, ids="-".join)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_scores_give_exactly_zero(switches, backend, dtype):
    stats_unit, baseline, scale = switches
    rows = make_rows(3, dtype=dtype)
    for score in (0.1, -1e30, 1 / 3):
        rows["scores"] = np.where(rows["group"] == 5, rows["scores"], dtype(score))
        for eps in (1e-6, 0.0):
            out = group_advantages(
                **rows, stats_unit=stats_unit, baseline=baseline, scale=scale, eps=eps, backend=backend
            )
            assert (out[rows["group"] != 5] == 0).all() and out[rows["group"] == 5].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_trial_weighs_as_much_as_a_short_one(backend):
    scores = np.array([1.0] * 9 + [4.0])
    trial, group = np.array([0] * 9 + [1]), np.zeros(10, np.int32)
    out = group_advantages(scores, group, trial=trial, stats_unit="trial", backend=backend)
    np.testing.assert_allclose(out, scores - 2.5)
    out = group_advantages(scores, group, stats_unit="turn", backend=backend)
    np.testing.assert_allclose(out, scores - 1.3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("switches", SWITCHES, ids="-".join)
def test_order_of_rows_does_not_matter(switches, backend):
    stats_unit, baseline, scale = switches
    rows = make_rows(5)
    shuffle = np.random.default_rng(0).permutation(len(rows["scores"]))
    settings = {"stats_unit": stats_unit, "baseline": baseline, "scale": scale, "backend": backend}
    out = group_advantages(**rows, **settings)
    shuffled = group_advantages(**{name: x[shuffle] for name, x in rows.items()}, **settings)
    np.testing.assert_allclose(shuffled, out[shuffle], rtol=1e-10, atol=1e-13)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(-1e3, 1e3)), max_size=30), st.data())
def test_group_names_do_not_matter(rows, data):
    group = np.array([name for name, _ in rows], np.int64)
    scores = np.array([score for _, score in rows])
    names = data.draw(st.permutations(range(len(set(group.tolist())))))
    renamed = np.array([names[sorted(set(group.tolist())).index(g)] for g in group.tolist()], np.int64)
    a, b = (group_advantages(scores, g, backend="cpu") for g in (group, renamed))
    assert same_bits(a, b)
    for name in set(group.tolist()):
        assert abs(a[group == name].sum()) <= 1e-9


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_and_second_run(backend):
    nothing = {name: x[:0] for name, x in make_rows(0).items()}
    assert group_advantages(**nothing, stats_unit="episode", backend=backend).shape == (0,)
    rows = make_rows(0, dtype=np.float32)
    runs = [group_advantages(**rows, stats_unit="trial", scale="std", backend=backend) for _ in range(2)]
    assert same_bits(*runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": np.zeros(3, np.int64)}, r"group must have shape \(60\), got \(3,\)"),
        ({"group": np.zeros(60)}, "group must be int64.* got float64"),
        ({"stats_unit": "row"}, "stats_unit must be one of .* got 'row'"),
        ({"stats_unit": "trial", "trial": None}, "stats_unit 'trial' needs trial, got None"),
        ({"stats_unit": "episode", "episode": None}, "stats_unit 'episode' needs episode, got None"),
        ({"include": np.full(60, 2, np.uint8)}, "include must be bool, or integers 0 and 1, got 2 to 2"),
        ({"include": np.zeros(60)}, "include must be bool, got float64"),
        ({"baseline": "median"}, "baseline must be one of"),
        ({"scale": "mad"}, "scale must be one of"),
        ({"singleton": "nan"}, "singleton must be one of"),
        ({"eps": -1.0}, "eps must lie in"),
        ({"backend": "triton"}, "backend 'triton' needs the triton package and CUDA tensors, got cpu"),
    ],
)
def test_bad_input_is_named(change, message, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=message):
        group_advantages(**{**make_rows(0), **change})


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend):
    rows = [torch.from_numpy(x) for x in make_rows(0, dtype=np.float32).values()]
    torch.library.opcheck(group_op, (*rows, None, "episode", "mean", "std", "zero", 1e-6, backend))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", ["none", "std", "batch_std"])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_scores_at_the_ends_of_float64(backend, scale, baseline):
    def of(scores, **options):
        group = np.array([0, 0, 0, 1, 1, 2])
        scores = np.array([*scores, 2.0, 4.0, 5.0])
        options = {"scale": scale, "baseline": baseline, "backend": backend} | options
        return group_advantages(scores, group, **options)

    for bad in (np.inf, -np.inf, np.nan):
        for place in range(3):
            scores = [1.0, 2.0, 3.0]
            scores[place] = bad
            out = of(scores)
            assert np.isnan(out[:3]).all() and out[5] == 0
            assert np.isnan(out[3:5]).all() if scale == "batch_std" else np.isfinite(out[3:5]).all()
    if scale != "none":
        assert np.isnan(of([1e200, 2e200, 4e200])[:3]).all()  # the squares overflow
    if scale == "std":
        assert of([0.0, 1e-200, 0.0], eps=0.0)[:3].tolist() == [0.0, 0.0, 0.0]  # and underflow
        assert of([0.0, 1e-150, 0.0], eps=0.0)[1] == pytest.approx(
            3**0.5 * (2 / 3 if baseline == "mean" else 1)
        )
