"""Numba: the same definition with the compiled parts of the other ops, float64 inside."""

import numpy as np
from numba import njit

from ..anchors.cpu import dense_ids, pair_ids
from ..groups.cpu import group_advantages
from ..returns.cpu import cross_episode_returns


@njit(cache=True, nogil=True)
def score_turns(
    of_turn, phase, episode, cu_trials, valid, invalid_penalty, reflection_score, stats_unit,
    scores, include, unit,
):  # fmt: skip
    """Fills scores, include and unit [R]; returns the number of units. Codes: see `meta_advantages`."""
    num_units = 0
    for m in range(len(cu_trials) - 1):
        score = 0.0
        for i in range(cu_trials[m], cu_trials[m + 1]):
            if i == cu_trials[m] or episode[i] != episode[i - 1]:
                score = of_turn[i]
                if stats_unit == 1 or (stats_unit == 2 and i == cu_trials[m]):
                    num_units += 1
            reflects = phase[i] != 0
            scores[i] = 0.0 if reflects and reflection_score == 1 else score
            include[i] = not (reflects and reflection_score == 2)
            if len(valid) > 0 and not valid[i]:
                scores[i] -= invalid_penalty
            if stats_unit > 0:
                unit[i] = num_units - 1
    return num_units


def meta_advantages(
    columns: list, anchors: np.ndarray | None, valid: np.ndarray, own_score: bool, return_form: str,
    gamma_step: float, gamma_traj: float, reflection_score: str, stats_unit: str, baseline: str, scale: str,
    by_episode: bool, w: float, invalid_penalty: float, eps: float,
) -> np.ndarray:  # fmt: skip
    """[R] float64. columns: rewards, phase, episode, group, cu_trials; valid: empty where all are."""
    rewards, phase, episode, group, cu_trials = columns
    num_rows = len(rewards)
    scores, returns, own, bracket, step = np.empty((5, num_rows))
    turns = rewards, phase, episode, cu_trials
    cross_episode_returns(*turns, gamma_step, gamma_traj, return_form == "paper", returns)
    if own_score:
        cross_episode_returns(*turns, 1.0, 0.0, True, own)
    include = np.empty(num_rows, np.bool_)
    unit = np.empty(num_rows if stats_unit != "turn" else 0, np.int32)
    num_units = score_turns(
        own if own_score else returns, phase, episode, cu_trials, valid, invalid_penalty,
        ("next_return", "zero", "exclude").index(reflection_score),
        ("turn", "episode", "trial").index(stats_unit), scores, include, unit,
    )  # fmt: skip
    g, num_groups = dense_ids(group)
    statistics = baseline == "leave_one_out", ("none", "std", "batch_std").index(scale), False, eps
    group_advantages(scores, include, g, num_groups, unit, num_units, *statistics, bracket)
    if anchors is None:
        return bracket

    # reflections have no board: those of a group compare with one another
    if by_episode:
        g, num_groups = pair_ids(g, num_groups, episode)
    ids, num_ids = pair_ids(2 * g + (phase != 0), 2 * num_groups, np.where(phase == 0, anchors, 0))
    include[:] = True
    group_advantages(returns, include, ids, num_ids, unit[:0], 0, *statistics, step)
    step *= w
    bracket += step
    return bracket
