"""assign_credit: golden values of the method, by way of the configuration."""

from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.algo.credit import assign_credit, gamma_traj, of_last_episode
from lamer_fast.config import AlgoConfig
from lamer_fast.rollout.trial_batch import Phase
from tests.hand_made import make_trials

# gamma_step 0.95, gamma_traj 0.6; episodes of 7, 7 and 3 turns, the only reward 10 at the very last one
PAPER = [3.249] * 7 + [5.415] + [5.415] * 7 + [9.025] + [9.025, 9.5, 10]
RELEASED = [1.75563, 1.848031, 1.945296, 2.04768, 2.155453, 2.268898, 2.388314, 3.980523]
RELEASED += [3.980523, 4.190024, 4.410551, 4.642686, 4.887038, 5.14425, 5.415, 9.025, 9.025, 9.5, 10]


def golden_trials():
    """The trial above and one that earned nothing, in one group; no anchor occurs twice, all valid."""
    episode = np.repeat([0, 1, 1, 2, 2], [7, 1, 7, 1, 3])
    phase = np.repeat([Phase.PLAY, Phase.REFLECT, Phase.PLAY, Phase.REFLECT, Phase.PLAY], [7, 1, 7, 1, 3])
    rewards = np.zeros(38, np.float32)
    rewards[18] = 10
    return replace(
        make_trials(),
        group=np.zeros(38, np.int32),
        trial=np.repeat([0, 1], 19).astype(np.int32),
        episode=np.tile(episode, 2).astype(np.int16),
        phase=np.tile(phase, 2).astype(np.uint8),
        rewards=rewards,
        anchors=np.arange(38),
        valid=np.ones(38, bool),
        cu_trials=np.array([0, 19, 38]),
    )


@pytest.mark.parametrize(("return_form", "golden"), [("paper", PAPER), ("released", RELEASED)])
def test_golden_returns_reach_the_advantages(return_form, golden):
    # step bracket: turns have anchors of their own (0), reflections of the group share one
    G = np.array(golden)
    algo = AlgoConfig(return_form=return_form, stats_unit="turn")
    # first turn of a turn's episode; of a reflection, that of the next one
    start = np.array([0] * 7 + [8] * 8 + [16] * 4)
    S = G[start]
    reflects = [7, 15]
    step = np.zeros(19)
    step[reflects] = G[reflects] - (G[7] + G[15]) / 4
    expected = S - S.sum() / 38 + step
    advantages = assign_credit(golden_trials(), algo)
    np.testing.assert_allclose(advantages[:19], expected, atol=2e-6)


def test_switches_reach_the_kernel():
    trials = make_trials(5, groups=3)
    base = assign_credit(trials, AlgoConfig())
    changes = [
        {"estimator": "grpo"}, {"episode_credit": "own"}, {"return_form": "released"}, {"gamma_step": 0.5},
        {"gamma_traj": 0.1}, {"reflection_score": "zero"}, {"stats_unit": "turn"}, {"scale": "std"},
        {"baseline": "leave_one_out"}, {"anchor_key": "board+episode"}, {"step_weight": 0.3},
        {"invalid_penalty": 2.0},
    ]  # fmt: skip
    for change in changes:
        changed = assign_credit(trials, replace(AlgoConfig(), **change))
        assert changed.dtype == np.float32 and changed.shape == base.shape
        assert not np.array_equal(changed, base), change


@pytest.mark.parametrize("estimator", ["gigpo", "grpo", "rloo", "reinforce++"])
def test_nothing_to_tell_apart_is_exactly_zero(estimator):
    trials = golden_trials()
    nothing = replace(trials, rewards=np.zeros_like(trials.rewards))
    assert not assign_credit(nothing, AlgoConfig(estimator=estimator)).any()


def test_no_turns_at_all():
    trials = make_trials(0, groups=1, trials_per_group=1)
    nothing = {
        name: getattr(trials, name)[:0]
        for name in ("rewards", "phase", "episode", "group", "anchors", "valid")
    }
    empty = replace(trials, trial=trials.trial[:0], cu_trials=np.zeros(2, np.int64), **nothing)
    assert len(assign_credit(empty, AlgoConfig())) == 0


def test_a_linear_schedule_of_gamma_traj_goes_from_end_to_end():
    trials = golden_trials()
    moving = AlgoConfig(gamma_traj=0.6, gamma_traj_schedule="linear", gamma_traj_end=0.2)
    for progress, gamma in ((0.0, 0.6), (0.5, 0.4), (1.0, 0.2)):
        np.testing.assert_allclose(
            assign_credit(trials, moving, progress),
            assign_credit(trials, AlgoConfig(gamma_traj=gamma)),
            rtol=1e-6,
        )


def test_an_adaptive_gamma_traj_is_how_often_later_episodes_win():
    trials = make_trials(0, groups=4, trials_per_group=2)
    success = np.zeros((8, 3), bool)
    success[0, 0] = success[1, 1] = success[2, 2] = True  # of seven failures two are made good
    trials = replace(trials, success_by_episode=success)
    adaptive = AlgoConfig(gamma_traj=0.9, gamma_traj_schedule="adaptive")
    assert gamma_traj(trials, adaptive, 0.5) == pytest.approx(2 / 7)
    assert gamma_traj(trials, replace(adaptive, gamma_traj=0.1), 0.5) == 0.1
    none_failed = replace(trials, success_by_episode=np.eye(1, 3, dtype=bool).repeat(8, 0))
    assert gamma_traj(none_failed, adaptive, 0.5) == 0.0
    np.testing.assert_array_equal(
        assign_credit(trials, adaptive), assign_credit(trials, AlgoConfig(gamma_traj=2 / 7))
    )


def test_rewards_of_the_last_episode_alone():
    trials = golden_trials()
    early = trials.rewards.copy()
    early[[2, 21]] = 5  # first episodes
    kept = of_last_episode(replace(trials, rewards=early))
    np.testing.assert_array_equal(kept, trials.rewards)  # the 10 at the end of the third
    np.testing.assert_array_equal(
        assign_credit(replace(trials, rewards=early), AlgoConfig(rewards="last_episode")),
        assign_credit(trials, AlgoConfig()),
    )
