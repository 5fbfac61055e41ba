"""Credit: one advantage per turn, by the estimator that the configuration names."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.algo.opo import opo
from lamer_fast.algo.own import called, function
from lamer_fast.algo.pass_at_k import pass_at_k
from lamer_fast.config import AlgoConfig
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels import meta_advantages
from lamer_kernels.credit.switches import keywords

PARAMETERS = ("trials", "algo")
Estimator = Callable[[TrialBatch, AlgoConfig], NDArray[np.float32]]
ESTIMATORS: dict[str, Estimator] = {"pass_at_k": pass_at_k, "opo": opo}


def assign_credit(trials: TrialBatch, algo: AlgoConfig, progress: float = 0.0) -> NDArray[np.float32]:
    """One advantage per turn, [R] float32; broadcast to the turn's tokens by `pack`.

    Args:
        progress: share of the run's iterations that are over, for schedules.
    """
    if trials.num_turns == 0:
        return np.zeros(0, np.float32)
    trials, algo = prepared(trials, algo, progress)
    return estimator(algo)(trials, algo)


def prepared(trials: TrialBatch, algo: AlgoConfig, progress: float) -> tuple[TrialBatch, AlgoConfig]:
    """With the rewards that count, and the discount of the moment."""
    if algo.rewards == "last_episode":
        trials = replace(trials, rewards=of_last_episode(trials))
    return trials, replace(algo, gamma_traj=gamma_traj(trials, algo, progress))


def gamma_traj(trials: TrialBatch, algo: AlgoConfig, progress: float) -> float:
    """By `algo.gamma_traj_schedule`; adaptive 0 where no first episode failed."""
    if algo.gamma_traj_schedule == "linear":
        return (1 - progress) * algo.gamma_traj + progress * algo.gamma_traj_end
    if algo.gamma_traj_schedule == "adaptive":
        failed = ~trials.success_by_episode[:, 0] & (np.diff(trials.cu_trials) > 0)
        later = trials.success_by_episode[failed, 1:].any(axis=1)
        return min(algo.gamma_traj, float(later.mean())) if failed.any() else 0.0
    return algo.gamma_traj


def of_last_episode(trials: TrialBatch) -> NDArray[np.float32]:
    """[R] rewards, 0 in every episode but the last that the trial played."""
    last = np.zeros(trials.num_trials, np.int16)
    np.maximum.at(last, trials.trial, trials.episode)
    return np.where(trials.episode == last[trials.trial], trials.rewards, np.float32(0))


def estimator(algo: AlgoConfig) -> Estimator:
    """Raises ValueError if `algo.estimator` names a function that cannot be used."""
    if ":" in algo.estimator:
        return own_advantages
    return ESTIMATORS.get(algo.estimator, by_switches)


def by_switches(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.float32]:
    """GiGPO, GRPO, RLOO, REINFORCE++: the configuration's switches."""
    credit: Any = meta_advantages  # typed for tensors, takes numpy arrays as well
    advantages: NDArray[np.float32] = credit(
        trials.rewards,
        trials.phase,
        trials.episode,
        trials.group,
        trials.cu_trials,
        anchors=trials.anchors,
        valid=trials.valid,
        **keywords(algo),
    )
    return advantages


def own_advantages(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.float32]:
    """Of the user's function, `estimator(trials: TrialBatch, algo: AlgoConfig)` -> [R] float, checked.

    Raises:
        ValueError: it raises, or returns another shape, another kind of number, or one that is not finite.
    """
    name = f"algo.estimator = {algo.estimator!r}"
    own = function(algo.estimator, "algo.estimator", PARAMETERS)
    out = called(algo.estimator, "algo.estimator", own, read_only(trials), algo)
    if not isinstance(out, np.ndarray) or out.shape != (trials.num_turns,) or out.dtype.kind != "f":
        found = f"{out.shape} {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"{name} returned {found}, expected ({trials.num_turns},) float32, one per turn")
    wrong = int((~np.isfinite(out)).sum())
    if wrong:
        raise ValueError(f"{name}: {wrong} of {len(out)} advantages are not finite")
    return out.astype(np.float32)


def read_only(trials: TrialBatch) -> TrialBatch:
    """The same memory, for code that is not ours: what it writes there would be trained on and recorded."""
    views: dict[str, Any] = {}
    for field in fields(trials):
        if isinstance(array := getattr(trials, field.name), np.ndarray):
            views[field.name] = array.view()
            views[field.name].flags.writeable = False
    return replace(trials, **views)


def trials_needed(algo: AlgoConfig) -> int:
    """Trials that a group must have left for the estimator to compare them.

    reinforce++ compares with the whole batch, gae with a critic, and a function of the user's own judges by
    itself.
    """
    if algo.estimator in ("reinforce++", "gae") or ":" in algo.estimator:
        return 1
    over_trials = algo.estimator == "pass_at_k" and algo.pass_over == "trials"
    return max(2, algo.pass_k) if over_trials else 2


def lone_turns(trials: TrialBatch, algo: AlgoConfig) -> NDArray[np.bool_]:
    """[R] True for turns of a group that has too few trials left: nothing to compare them with."""
    if trials_needed(algo) < 2:
        return np.zeros(trials.num_turns, np.bool_)
    alive = np.diff(trials.cu_trials) > 0  # a trial whose environment failed has no turns
    group_of_trial = trials.group[trials.cu_trials[:-1][alive]]
    size = np.bincount(group_of_trial, minlength=int(trials.group.max(initial=-1)) + 1)
    return np.asarray(size[trials.group] < trials_needed(algo))
