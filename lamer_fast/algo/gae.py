"""Estimator gae: advantages by a critic's values, over the turns and the episodes of a trial.

Axis letters: R turns, K episodes of a trial at most.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import AlgoConfig
from lamer_fast.rollout.trial_batch import Phase, TrialBatch
from lamer_kernels import gae

Column = NDArray[np.float32]  # [R]


class Credit(NamedTuple):
    """What each turn is worth; the others are None without a critic."""

    advantages: Column
    values: Column | None = None
    """Of the critic before the first update."""
    returns: Column | None = None
    """What it is trained towards."""
    explained: float | None = None
    """1 - Var(G - V) / Var(G), of returns G that no value is part of; at most 1."""


def gae_credit(trials: TrialBatch, values: Column, algo: AlgoConfig) -> Credit:
    """A reply that could not be parsed costs its turn `invalid_penalty`, and no return. Advantages are
    whitened over the collection unless `scale` is none."""
    lambda_traj = algo.lambda_traj
    returns = lambda_returns(trials, values, algo, algo.lambda_step, lambda_traj)
    advantages = returns - values - np.float32(algo.invalid_penalty) * ~trials.valid
    trained = np.full(trials.num_turns, True) if algo.train_reflections else trials.phase == Phase.PLAY
    if algo.scale != "none":
        spread = advantages[trained].std(dtype=np.float64) + algo.eps
        advantages = (advantages - advantages[trained].mean(dtype=np.float64)) / spread
    played = lambda_returns(trials, values, algo, 1.0, 1.0)[trained].astype(np.float64)
    left = (played - values[trained]).var() / max(played.var(), 1e-12)
    return Credit(advantages.astype(np.float32), values, returns, float(1 - left))


def lambda_returns(
    trials: TrialBatch, values: Column, algo: AlgoConfig, lambda_step: float, lambda_traj: float
) -> Column:
    """Of either form of the return; `gae` itself gives the released one.

    By the paper the future of a trial, F = gamma_traj x the return at the start of the next episode, reaches
    every turn of an episode undiscounted. G_t = r_t + gamma_step G_(t+1) + (1 - gamma_step) F: the same sweep
    over rewards that have this share of F at each turn but the episode's last. F is known once the next
    episode is right, so that K sweeps suffice.
    """
    gamma_traj = algo.gamma_traj if algo.episode_credit == "cross" else 0.0
    sweep: Any = gae  # typed for tensors, takes numpy arrays as well

    def swept(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
        returns: NDArray[np.float64] = sweep(
            rewards, values.astype(np.float64), trials.phase, trials.episode, trials.cu_trials,
            gamma_step=algo.gamma_step, gamma_traj=gamma_traj,
            lambda_step=lambda_step, lambda_traj=lambda_traj,
        )[1]  # fmt: skip
        return returns

    rewards = trials.rewards.astype(np.float64)
    returns = swept(rewards)
    if algo.return_form == "released" or gamma_traj == 0 or trials.num_turns == 0:
        return returns.astype(np.float32)
    following, exists = next_episode(trials)
    goes_on = (trials.phase == Phase.PLAY) & ~is_last(trials) & exists
    for _ in range(int(trials.episode.max())):
        ahead = (1 - lambda_traj) * values[following] + lambda_traj * returns[following]
        returns = swept(rewards + goes_on * (1 - algo.gamma_step) * gamma_traj * ahead)
    return returns.astype(np.float32)


def next_episode(trials: TrialBatch) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[R] row of the first PLAY turn of the episode after, and whether there is one (else row 0)."""
    play, span = np.flatnonzero(trials.phase == Phase.PLAY), int(trials.episode.max()) + 2
    keys = trials.trial.astype(np.int64) * span + trials.episode
    known, first = np.unique(keys[play], return_index=True)
    place = np.searchsorted(known, keys + 1)
    found = np.minimum(place, len(known) - 1)
    exists = (place < len(known)) & (known[found] == keys + 1)
    return np.where(exists, play[first][found], 0), exists


def is_last(trials: TrialBatch) -> NDArray[np.bool_]:
    """[R] True for the last turn of its episode in its trial."""
    same = (trials.trial[1:] == trials.trial[:-1]) & (trials.episode[1:] == trials.episode[:-1])
    return np.append(~same, True)
