"""Numba: the same definition in one compiled call, float64 inside."""

import numpy as np
from numba import njit

from ..anchors.cpu import pair_ids
from ..groups.cpu import dense_groups, group_advantages
from ..returns.cpu import cross_episode_returns


@njit(cache=True, nogil=True)
def meta_advantages(
    rewards, phase, episode, group, cu_trials, anchors, valid,
    own_score, paper, gamma_step, gamma_traj, reflection_score, stats_unit, loo, scale, by_episode, w,
    invalid_penalty, eps, out,
):  # fmt: skip
    """anchors, valid: empty where there are none. reflection_score: 0 next_return, 1 zero, 2 exclude;
    stats_unit: 0 turn, 1 episode, 2 trial; scale: 0 none, 1 std, 2 batch_std.
    """
    num_rows = len(rewards)
    returns = np.empty(num_rows)
    cross_episode_returns(rewards, phase, episode, cu_trials, gamma_step, gamma_traj, paper, returns)
    of_turn = returns
    if own_score:
        of_turn = np.empty(num_rows)
        cross_episode_returns(rewards, phase, episode, cu_trials, 1.0, 0.0, True, of_turn)

    scores = np.empty(num_rows)
    include = np.ones(num_rows, np.bool_)
    unit = np.empty(num_rows if stats_unit > 0 else 0, np.int32)
    num_units = 0
    for m in range(len(cu_trials) - 1):
        score = 0.0
        for i in range(cu_trials[m], cu_trials[m + 1]):
            if i == cu_trials[m] or episode[i] != episode[i - 1]:
                score = of_turn[i]
                if stats_unit == 1 or (stats_unit == 2 and i == cu_trials[m]):
                    num_units += 1
            scores[i] = score
            if phase[i] != 0:
                if reflection_score == 1:
                    scores[i] = 0.0
                include[i] = reflection_score != 2
            if len(valid) > 0 and not valid[i]:
                scores[i] -= invalid_penalty
            if stats_unit > 0:
                unit[i] = num_units - 1

    g = np.empty(num_rows, np.int32)
    num_groups = dense_groups(group, g)
    bracket = np.empty(num_rows)
    group_advantages(scores, include, g, num_groups, unit, num_units, loo, scale, False, eps, bracket)
    if len(anchors) == 0:
        out[:] = bracket
        return
    if by_episode:
        by_group, g = g, np.empty(num_rows, np.int32)
        num_groups = pair_ids(by_group, num_groups, episode, g)
    key = np.zeros(num_rows, np.int64)
    for i in range(num_rows):
        g[i] = 2 * g[i] + (phase[i] != 0)  # reflections have no board: they compare with one another
        if phase[i] == 0:
            key[i] = anchors[i]
    ids = np.empty(num_rows, np.int32)
    num_keys = pair_ids(g, 2 * num_groups, key, ids)
    include[:] = True
    step = np.empty(num_rows)
    group_advantages(returns, include, ids, num_keys, unit[:0], 0, loo, scale, False, eps, step)
    for i in range(num_rows):
        out[i] = bracket[i] + w * step[i]
