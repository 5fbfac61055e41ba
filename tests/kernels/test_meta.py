"""gigpo_advantages and meta_advantages: golden values, a loop over all combinations of switches, refusals."""

from inspect import signature
from itertools import product

import numpy as np
import pytest
import torch

from lamer_kernels import gigpo_advantages, group_advantages, meta_advantages
from lamer_kernels.credit.meta.op import meta_op
from lamer_kernels.credit.switches import NAMES, Switches, flat, keywords, of_flat, resolve
from tests.kernels.credit import BACKENDS, group_loop, make_trials, returns_loop, same_bits, table, tensors

# lamer-method 5.2: uid, anchor, S after the penalty, G, then the columns of the released code
GOLDEN = [
    ("A", "s0", 0, 2.4, -1.4361, -0.1602, -0.4715, -2.375),
    ("A", "s1", 0, 2.6, -2.1111, -0.4715, -0.4715, -2.375),
    ("A", "reflection", 0, 4.5, 0.1389, 0.2356, -0.4715, -2.375),
    ("A", "s0", 10, 4.5, 10.6639, 3.0415, 1.7619, 8.875),
    ("A", "s2", 10, 10, 7.8889, 1.7619, 1.7619, 8.875),
    ("A", "s0", -0.5, 0, -4.3361, -1.3786, -0.5832, -2.9375),
    ("A", "s3", 0, 0, -2.1111, -0.4715, -0.4715, -2.375),
    ("A", "reflection", -0.5, 0, -4.8611, -1.2903, -0.5832, -2.9375),
    ("A", "s0", 0, 0, -3.8361, -1.267, -0.4715, -2.375),
    ("B", "s0", 10, 9.5, 0, 0, 0, 0),
    ("B", "s1", 10, 10, 0, 0, 0, 0),
]
RELEASED = {
    "episode_credit": "own",
    "return_form": "released",
    "reflection_score": "zero",
    "stats_unit": "turn",
}
COMBINATIONS = list(
    product(
        ("gigpo", "grpo", "rloo", "reinforce++"),
        ("cross", "own"),
        ("paper", "released"),
        ("next_return", "zero", "exclude"),
        ("trial", "episode", "turn"),
        ("mean", "leave_one_out"),
        ("none", "std"),
        ("board", "board+episode"),
    )
)
NAMES_OF_WORDS = (
    "estimator",
    "episode_credit",
    "return_form",
    "reflection_score",
    "stats_unit",
    "baseline",
    "scale",
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_table_of_the_released_code(backend):
    uid, anchor, scores, returns, *columns = zip(*GOLDEN, strict=True)
    group = np.array([ord(name) for name in uid])
    anchors = np.array([{"s0": 3, "s1": 1, "s2": 4, "s3": 5, "reflection": -1}[a] for a in anchor])
    scores, returns = np.array(scores, np.float64), np.array(returns, np.float64)
    gigpo = [
        gigpo_advantages(scores, returns, group, anchors, scale=s, backend=backend) for s in ("none", "std")
    ]
    grpo = group_advantages(scores, group, scale="std", backend=backend)
    rloo = group_advantages(scores, group, baseline="leave_one_out", backend=backend)
    for out, column in zip([*gigpo, grpo, rloo], columns, strict=True):
        np.testing.assert_allclose(out, column, atol=5.1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_released_episode_bracket(backend):
    """The S column of 5.2 from raw rewards: sum of the own episode, 0 on reflections, penalty on its turn."""
    rewards, phase, episode, cu_trials = table([[[0, 0], [0, 10]], [[0, 0], [0]], [[0, 10]]])
    valid = np.ones(len(rewards), bool)
    valid[[5, 7]] = False
    group = np.array([0] * 9 + [1] * 2)
    for estimator, column, more in (("grpo", 6, {}), ("rloo", 7, {})):
        out = meta_advantages(
            rewards, phase, episode, group, cu_trials, valid=valid, estimator=estimator, backend=backend,
            episode_credit="own", reflection_score="zero", stats_unit="turn", **more,
        )  # fmt: skip
        np.testing.assert_allclose(out, [row[column] for row in GOLDEN], atol=5.1e-5)


def meta_loop(
    rewards, phase, episode, group, cu_trials, anchors, valid,
    estimator, episode_credit, return_form, reflection_score, stats_unit, baseline, scale, anchor_key,
):  # fmt: skip
    """The docstring of `meta_advantages`, one turn at a time; gammas 0.9 and 0.7, w 1, penalty 0.5."""
    num_rows = len(rewards)
    returns = returns_loop(rewards, phase, episode, cu_trials, 0.9, 0.7, return_form)
    trial = [int(np.searchsorted(cu_trials, i, side="right")) for i in range(num_rows)]
    scores = np.zeros(num_rows)
    for i in range(num_rows):
        mates = [j for j in range(num_rows) if trial[j] == trial[i] and episode[j] == episode[i]]
        play = [j for j in mates if phase[j] == 0]
        scores[i] = returns[play[0]] if episode_credit == "cross" else sum(rewards[j] for j in play)
        if phase[i] and reflection_score == "zero":
            scores[i] = 0.0
        scores[i] -= 0.0 if valid[i] else 0.5
    include = None if reflection_score != "exclude" else phase == 0
    unit = {"turn": range(num_rows), "trial": trial, "episode": list(zip(trial, episode, strict=True))}
    whole_batch = {"std": "batch_std"} if estimator == "reinforce++" else {}
    out = group_loop(scores, group, unit[stats_unit], include, baseline, whole_batch.get(scale, scale))
    if estimator != "gigpo":
        return out
    at = [
        (
            group[i],
            "reflection" if phase[i] else anchors[i],
            episode[i] if anchor_key == "board+episode" else 0,
        )
        for i in range(num_rows)
    ]
    names = {key: n for n, key in enumerate(dict.fromkeys(at))}
    return out + group_loop(returns, [names[key] for key in at], range(num_rows), None, baseline, scale)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(2))
def test_every_combination_matches_the_loop(seed, backend):
    trials = make_trials(seed, groups=2, trials=3, max_turns=3)
    checked = 0
    for values in COMBINATIONS:
        switches = dict(zip((*NAMES_OF_WORDS, "anchor_key"), values, strict=True))
        gammas = {"gamma_step": 0.9, "gamma_traj": 0.7}
        if switches["estimator"] != "gigpo" and switches["episode_credit"] == "own":
            gammas = {}  # they have no effect there, and are refused
        try:
            resolve(Switches(**switches, **gammas))
        except ValueError:
            continue
        out = meta_advantages(**trials, **switches, **gammas, backend=backend, validate=True)
        np.testing.assert_allclose(
            out, meta_loop(**trials, **switches), rtol=1e-8, atol=1e-10, err_msg=str(values)
        )
        checked += 1
    assert checked == 288 + 108 + 54 + 54  # gigpo, grpo (none, std), rloo, reinforce++


def test_switches_have_one_set_of_names_and_defaults():
    taken = signature(meta_advantages).parameters
    assert {name: taken[name].default for name in keywords(Switches())} == keywords(Switches())
    others = [
        "rewards",
        "phase",
        "episode",
        "group",
        "cu_trials",
        "anchors",
        "valid",
        "estimator_options",
        "grouped",
        "backend",
        "validate",
    ]
    assert set(taken) == {*keywords(Switches()), *others}


def test_switches_come_back_from_their_numbers():
    for values in COMBINATIONS:
        given = dict(zip((*NAMES_OF_WORDS, "anchor_key"), values, strict=True))
        switches = Switches(**given, gamma_step=0.1, invalid_penalty=0.7, eps=0.25)
        assert of_flat(flat(switches)) == switches and len(flat(switches)) == len(NAMES)
    assert of_flat(flat(resolve(Switches(estimator="reinforce++")))).scale == "batch_std"
    with pytest.raises(ValueError, match="scale must be one of"):
        resolve(Switches(scale="batch_std"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_penalty_touches_the_score_of_its_turn_and_no_return(backend):
    trials = make_trials(0)
    settings = {"estimator": "grpo", "scale": "none", "stats_unit": "turn", "backend": backend}
    every = np.ones_like(trials["valid"])
    base = meta_advantages(**{**trials, "valid": every}, **settings)
    one = every.copy()
    one[4] = False
    changed = meta_advantages(**{**trials, "valid": one}, **settings, invalid_penalty=2.0) - base
    mates = trials["group"] == trials["group"][4]
    np.testing.assert_allclose(changed[4], -2 + 2 / mates.sum(), rtol=1e-12)
    np.testing.assert_allclose(changed[mates & one], 2 / mates.sum(), rtol=1e-10)
    assert not changed[~mates].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("settings", [{}, RELEASED, {"scale": "std"}, {"baseline": "leave_one_out"}], ids=str)
def test_equal_groups_give_exactly_zero(settings, backend):
    rewards, phase, episode, cu_trials = table([[[0.1, 0.7]]] * 4 + [[[0.3]]], np.float32)
    group = np.array([3] * 8 + [-1], np.int32)  # four equal trials, and a group of one trial
    out = meta_advantages(
        rewards,
        phase,
        episode,
        group,
        cu_trials,
        anchors=np.array([1, 2] * 4 + [1]),
        backend=backend,
        **settings,
    )
    assert out.dtype == np.float32 and not out.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_trials_does_not_matter(backend):
    trials = make_trials(1)
    cu_trials = trials.pop("cu_trials")
    order = np.random.default_rng(0).permutation(len(cu_trials) - 1)
    rows = np.concatenate([np.arange(cu_trials[m], cu_trials[m + 1]) for m in order])
    shuffled = {name: x[rows] for name, x in trials.items()}
    moved = np.concatenate([[0], np.cumsum(np.diff(cu_trials)[order])])
    for settings in ({}, RELEASED, {"scale": "std"}, {"estimator": "reinforce++"}):
        out = meta_advantages(**trials, cu_trials=cu_trials, backend=backend, **settings)
        again = meta_advantages(**shuffled, cu_trials=moved, backend=backend, **settings)
        np.testing.assert_allclose(again, out[rows], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_reflections_compare_with_one_another_whatever_their_anchors(backend):
    trials = make_trials(2)
    out = meta_advantages(**trials, backend=backend)
    anchors = np.where(trials["phase"] == 1, trials["anchors"][0], trials["anchors"])
    assert same_bits(out, meta_advantages(**{**trials, "anchors": anchors}, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_one_row_and_second_run(backend):
    trials = make_trials(0, dtype=np.float32)
    nothing = {name: x[:0] for name, x in trials.items()} | {"cu_trials": np.array([0])}
    assert meta_advantages(**nothing, backend=backend).shape == (0,)
    one = {name: x[:1] for name, x in trials.items()} | {"cu_trials": np.array([0, 1])}
    assert meta_advantages(**one, backend=backend).tolist() == [0.0]
    assert same_bits(meta_advantages(**trials, backend=backend), meta_advantages(**trials, backend=backend))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchors": None}, "estimator 'gigpo' needs anchors, got None"),
        ({"valid": None, "invalid_penalty": 1.0}, "invalid_penalty=1.0 needs valid, got None"),
        ({"estimator": "ppo"}, "estimator must be one of .* got 'ppo'"),
        ({"estimator": "grpo", "w": 0.5}, r"step_weight \(w\)=0.5 has no effect with estimator 'grpo'"),
        ({"estimator": "rloo", "anchor_key": "board+episode"}, "anchor_key='board.episode' has no effect"),
        (
            {"estimator": "rloo", "baseline": "mean"},
            "'rloo' is the leave_one_out baseline, got baseline 'mean'",
        ),
        ({"estimator": "reinforce++", "scale": "none"}, "divides by the batch's std, got scale 'none'"),
        (
            {"estimator": "grpo", "episode_credit": "own", "gamma_traj": 0.9},
            "gamma_traj=0.9 has no effect with estimator 'grpo', episode_credit 'own'",
        ),
        ({"eps": 1e-3}, "eps=0.001 has no effect .* scale 'none'"),
        ({"gamma_step": 1.01}, r"gamma_step must lie in \[0, 1\], got 1.01"),
        ({"w": -1.0}, r"step_weight \(w\) must lie in"),
        ({"stats_unit": "row"}, "stats_unit must be one of"),
        ({"valid": np.zeros(3, bool)}, "valid must have shape"),
        ({"group": np.zeros(3, np.int32)}, "group must have shape"),
        ({"split_group": True}, "a trial must lie in one group: turn 0 is in group 99"),
    ],
)
def test_bad_input_is_named(change, message):
    trials = make_trials(0)
    if change.pop("split_group", False):
        trials["group"][0] = 99
        assert trials["cu_trials"][1] > 1
    with pytest.raises(ValueError, match=message):
        meta_advantages(**{**trials, **change}, validate=True)


def test_groups_that_are_no_neighbours_are_found():
    trials = make_trials(0)
    assert same_bits(meta_advantages(**trials, grouped=True, validate=True), meta_advantages(**trials))
    last = trials["group"] == trials["group"][-1]
    trials["group"][last] = trials["group"][0]
    with pytest.raises(ValueError, match=r"group \d+ comes twice"):
        meta_advantages(**trials, grouped=True, validate=True)


def test_lives_under_torch_compile():
    trials = tensors(make_trials(0, dtype=np.float32))

    def double(rewards):
        return 2 * meta_advantages(**{**trials, "rewards": rewards})

    compiled = torch.compile(double, fullgraph=True, backend="eager")
    rewards = trials["rewards"]
    assert torch.equal(compiled(rewards), double(rewards))
    assert torch.equal(compiled(rewards + 1), double(rewards + 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend):
    trials = tensors(make_trials(0, dtype=np.float32))
    switches = Switches(reflection_score="exclude", scale="std", anchor_key="board+episode")
    torch.library.opcheck(meta_op, (*trials.values(), flat(resolve(switches)), False, backend))
