"""cross_episode_returns, discounted_returns, gae: golden values, and sums written from the equations."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lamer_kernels import cross_episode_returns, discounted_returns, gae
from lamer_kernels._core.dispatch import interpreting
from lamer_kernels.credit.returns.op import gae_op, returns_op
from tests.kernels.credit import BACKENDS, make_trials, returns_loop, same_bits, table

# one reward of 10 at the very end of episodes of 7, 7 and 3 turns; gamma_step 0.95, gamma_traj 0.6
LAST_REWARD = [[0.0] * 7, [0.0] * 7, [0.0, 0.0, 10.0]]
LAST_REWARD_RETURNS = {
    "released": "1.75563 1.848031 1.945296 2.04768 2.155453 2.268898 2.388314 3.980523 3.980523 4.190024 "
    "4.410551 4.642686 4.887038 5.14425 5.415 9.025 9.025 9.5 10",
    "paper": "3.249 " * 7 + "5.415 " * 8 + "9.025 9.025 9.5 10",
}
SHAPED = [[-0.1, 0.9, -0.1], [-0.1, -1.1], [0.9, 10.9]]
SHAPED_RETURNS = {
    (0.95, 0.6, "released"): "3.518645 3.8091 3.06221 5.27035 5.27035 5.653 11.255 11.255 10.9",
    (0.95, 0.6, "paper"): "4.02955 4.1698 3.2648 5.608 5.608 5.653 11.255 11.255 10.9",
    (0.95, 0.9, "released"): "7.551026 8.053711 7.530223 8.478025 8.478025 9.0295 11.255 11.255 10.9",
    (0.95, 0.9, "paper"): "8.7508 8.89105 7.98605 8.9845 8.9845 9.0295 11.255 11.255 10.9",
    (1.0, 1.0, "released"): "11.3 11.4 10.5 10.6 10.6 10.7 11.8 11.8 10.9",
    (1.0, 1.0, "paper"): "11.3 11.4 10.5 10.6 10.6 10.7 11.8 11.8 10.9",
    (0.9, 0.0, "released"): "0.629 0.81 -0.1 -1.09 -1.09 -1.1 10.71 10.71 10.9",
    (0.9, 0.0, "paper"): "0.629 0.81 -0.1 -1.09 -1.09 -1.1 10.71 10.71 10.9",
}


def numbers(text):
    return [float(x) for x in text.split()]


def turns(seed, dtype=np.float64):
    made = make_trials(seed, dtype=dtype)
    return [made[name] for name in ("rewards", "phase", "episode", "cu_trials")]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", ["paper", "released"])
def test_golden_last_reward(form, backend):
    out = cross_episode_returns(
        *table([LAST_REWARD]), gamma_step=0.95, gamma_traj=0.6, return_form=form, backend=backend
    )
    np.testing.assert_allclose(out, numbers(LAST_REWARD_RETURNS[form]), atol=6e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", SHAPED_RETURNS, ids=str)
def test_golden_shaped_rewards(case, backend):
    gamma_step, gamma_traj, form = case
    out = cross_episode_returns(
        *table([SHAPED]), gamma_step=gamma_step, gamma_traj=gamma_traj, return_form=form, backend=backend
    )
    np.testing.assert_allclose(out, numbers(SHAPED_RETURNS[case]), atol=6e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("seed", range(5))
def test_matches_the_sums(seed, form, backend):
    columns = turns(seed)
    out = cross_episode_returns(*columns, gamma_step=0.9, gamma_traj=0.7, return_form=form, backend=backend)
    np.testing.assert_allclose(out, returns_loop(*columns, 0.9, 0.7, form), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_is_float64_rounded_once(backend):
    columns = turns(0, np.float32)
    exact = cross_episode_returns(
        columns[0].astype(np.float64), *columns[1:], gamma_step=0.9, gamma_traj=0.7, backend=backend
    )
    out = cross_episode_returns(*columns, gamma_step=0.9, gamma_traj=0.7, backend=backend)
    assert same_bits(out, exact.astype(np.float32))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gammas", [(1.0, 0.7), (0.9, 0.0)])
def test_forms_coincide(gammas, backend):
    both = [
        cross_episode_returns(
            *turns(3), gamma_step=gammas[0], gamma_traj=gammas[1], return_form=form, backend=backend
        )
        for form in ("paper", "released")
    ]
    np.testing.assert_allclose(*both, rtol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("form", ["paper", "released"])
def test_trials_are_independent(form, backend):
    played = [SHAPED, [[3.0]], LAST_REWARD]
    settings = {"gamma_step": 0.95, "gamma_traj": 0.6, "return_form": form, "backend": backend}
    together = cross_episode_returns(*table(played), **settings)
    apart = [cross_episode_returns(*table([one]), **settings) for one in played]
    assert same_bits(together, np.concatenate(apart))


@pytest.mark.parametrize("backend", BACKENDS)
def test_edges(backend):
    settings = {"gamma_step": 0.5, "gamma_traj": 0.5, "backend": backend}
    nothing = np.empty(0), np.empty(0, np.uint8), np.empty(0, np.int16)
    assert cross_episode_returns(*nothing, np.array([0]), **settings).shape == (0,)
    assert cross_episode_returns(*nothing, np.array([0, 0, 0]), **settings).shape == (0,)
    one = np.array([3.0]), np.array([0], np.uint8), np.array([2], np.int16)
    assert cross_episode_returns(*one, np.array([0, 0, 1, 1]), **settings).tolist() == [3.0]
    # a reflection that nothing follows, as in a trial cut short
    cut = np.array([4.0, 9.0]), np.array([0, 1], np.uint8), np.array([0, 1], np.int16)
    assert cross_episode_returns(*cut, np.array([0, 2]), **settings).tolist() == [4.0, 0.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_discounted_returns_of_a_long_sequence(backend):
    rng = np.random.default_rng(0)
    rewards, cu_seqlens = rng.standard_normal(70_003), np.array([0, 3, 3, 70_003])
    expected, running = np.zeros(len(rewards)), 0.0
    for t in range(len(rewards) - 1, -1, -1):
        running = rewards[t] + (0.0 if t + 1 in cu_seqlens else 0.99 * running)
        expected[t] = running
    if backend == "reference":
        rewards, cu_seqlens, expected = rewards[-500:], np.array([0, 500]), expected[-500:]
    out = discounted_returns(rewards, cu_seqlens, gamma=0.99, backend=backend)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def gae_loop(rewards, values, phase, episode, cu_trials, gammas, lambdas):
    """Sum of discounted temporal differences over the PLAY turns that follow."""
    returns = np.zeros(len(rewards))
    for start, end in pairwise(cu_trials):
        play = [t for t in range(start, end) if phase[t] == 0]
        for t in range(start, end):
            chain = [u for u in play if u >= t]
            total, factor = values[chain[0]] if chain else 0.0, 1.0
            for u, v in zip(chain, [*chain[1:], None], strict=True):
                crosses = int(v is not None and episode[v] != episode[u])
                following = 0.0 if v is None else values[v]
                total += factor * (rewards[u] + gammas[crosses] * following - values[u])
                factor *= gammas[crosses] * lambdas[crosses]
            returns[t] = total
    return returns - values, returns


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(3))
def test_gae_matches_the_sum_of_differences(seed, backend):
    columns = turns(seed)
    values = np.random.default_rng(seed).standard_normal(len(columns[0]))
    out = gae(
        columns[0], values, *columns[1:],
        gamma_step=0.9, gamma_traj=0.7, lambda_step=0.8, lambda_traj=0.5, backend=backend,
    )  # fmt: skip
    expected = gae_loop(columns[0], values, *columns[1:], (0.9, 0.7), (0.8, 0.5))
    for ours, theirs in zip(out, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gae_without_critic_is_the_released_return(backend):
    columns = turns(1)
    gammas = {"gamma_step": 0.9, "gamma_traj": 0.7, "backend": backend}
    zeros = np.zeros_like(columns[0])
    advantages, returns = gae(columns[0], zeros, *columns[1:], lambda_step=1.0, lambda_traj=1.0, **gammas)
    released = cross_episode_returns(*columns, return_form="released", **gammas)
    np.testing.assert_allclose(returns, released, rtol=1e-14)
    assert same_bits(advantages, returns)


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_run_has_equal_bits(backend):
    settings = {"gamma_step": 0.95, "gamma_traj": 0.6, "backend": backend}
    columns = turns(2, np.float32)
    assert same_bits(cross_episode_returns(*columns, **settings), cross_episode_returns(*columns, **settings))


def test_kind_layout_and_dtypes_of_inputs():
    columns = turns(4)
    settings = {"gamma_step": 0.95, "gamma_traj": 0.6}
    expected = cross_episode_returns(*columns, **settings)
    assert isinstance(expected, np.ndarray)
    as_tensors = [torch.from_numpy(x) for x in columns]
    out = cross_episode_returns(*as_tensors, **settings)
    assert isinstance(out, torch.Tensor) and same_bits(out.numpy(), expected)
    strided = [torch.stack([x, x], 1)[:, 0] for x in as_tensors[:3]]
    assert same_bits(cross_episode_returns(*strided, as_tensors[3], **settings).numpy(), expected)
    columns[0].flags.writeable = False
    others = columns[1].astype(bool), columns[2].astype(np.int64), columns[3].astype(np.int32)
    assert same_bits(cross_episode_returns(columns[0], *others, **settings), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": torch.zeros(9, dtype=torch.bool)}, "rewards must be float32 or float64, got bool"),
        ({"rewards": torch.zeros(9, 1)}, r"rewards must have shape \(any\), got \(9, 1\)"),
        ({"phase": torch.zeros(8, dtype=torch.uint8)}, r"phase must have shape \(9\), got \(8,\)"),
        ({"episode": torch.zeros(9)}, "episode must be .* got float32"),
        ({"cu_trials": torch.zeros(2)}, "cu_trials must be int64 or int32, got float32"),
        ({"cu_trials": torch.empty(0, dtype=torch.int64)}, "cu_trials must hold at least the offset 0"),
        ({"cu_trials": torch.tensor([0, 8])}, "cu_trials must run from 0 to 9, got 0 to 8"),
        ({"cu_trials": torch.tensor([0, 7, 5, 9])}, "cu_trials must not fall"),
        ({"gamma_step": 1.5}, r"gamma_step must lie in \[0, 1\], got 1.5"),
        ({"gamma_traj": -0.1}, "gamma_traj must lie in"),
        ({"return_form": "Paper"}, "return_form must be one of .*'paper', 'released'.* got 'Paper'"),
        ({"backend": "cuda"}, "backend must be one of .* got 'cuda'"),
        ({"episode": torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])}, "turn 3 is a reflection of episode 0"),
        ({"episode": torch.tensor([0, 0, 0, 1, 1, 0, 2, 2, 2])}, "episode must not fall"),
        ({"phase": torch.full((9,), 2)}, "phase must be 0 .PLAY. or 1 .REFLECT., got 2"),
    ],
)
def test_bad_input_is_named(change, message):
    names = ("rewards", "phase", "episode", "cu_trials")
    good = dict(zip(names, map(torch.from_numpy, table([SHAPED])), strict=True))
    settings = {"gamma_step": 0.95, "gamma_traj": 0.6, "validate": True}
    cross_episode_returns(**good, **settings)
    with pytest.raises(ValueError, match=message):
        cross_episode_returns(**{**good, **settings, **change})


def test_numpy_and_tensors_do_not_mix():
    columns = table([SHAPED])
    with pytest.raises(TypeError, match="either numpy arrays or torch tensors"):
        cross_episode_returns(torch.from_numpy(columns[0]), *columns[1:], gamma_step=1.0, gamma_traj=1.0)


def test_a_backward_pass_raises():
    columns = [torch.from_numpy(x) for x in table([SHAPED])]
    columns[0].requires_grad_()
    out = cross_episode_returns(*columns, gamma_step=0.9, gamma_traj=0.5)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        out.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend):
    columns = [torch.from_numpy(x) for x in turns(0, np.float32)]
    torch.library.opcheck(returns_op, (*columns, 0.9, 0.7, "paper", backend))
    torch.library.opcheck(gae_op, (columns[0], columns[0], *columns[1:], 0.9, 0.7, 0.8, 0.5, backend))


@pytest.mark.skipif(interpreting(), reason="the interpreter has no signature")
def test_discounts_reach_the_triton_kernel_as_float64():
    gpu = pytest.importorskip("lamer_kernels.credit.returns.gpu")
    types = {p.name: p.annotation_type for p in gpu.returns_kernel.params}
    assert {types[name] for name in ("gamma_step", "gamma_traj", "lambda_step", "lambda_traj")} == {"fp64"}
