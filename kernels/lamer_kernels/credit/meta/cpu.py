"""Numba: the same definition, one group at a time, so that all between input and output stays in cache."""

from collections import namedtuple

import numpy as np

from ..._core.jit import njit
from ..anchors.cpu import number_pairs
from ..groups.cpu import deviation_of, divide_by_deviation, group_bracket, group_starts
from ..returns.cpu import trial_returns
from ..switches import NAMES, code

Numbers = namedtuple("Numbers", NAMES)  # one float a switch: `switches.flat`
OWN, PAPER, LOO = (
    code("episode_credit", "own"),
    code("return_form", "paper"),
    code("baseline", "leave_one_out"),
)
ZERO, EXCLUDE = (code("reflection_score", word) for word in ("zero", "exclude"))
TRIAL, EPISODE, TURN = (code("stats_unit", word) for word in ("trial", "episode", "turn"))
BY_EPISODE = code("anchor_key", "board+episode")


@njit
def name_trials(group, cu_trials, names):
    """names [M] = group of each trial; returns the first trial with turns of two groups, or -1."""
    for m in range(len(names)):
        start, end = cu_trials[m], cu_trials[m + 1]
        names[m] = group[start] if end > start else (names[m - 1] if m > 0 else 0)
        mixed = 0
        for i in range(start, end):
            mixed += group[i] != names[m]
        if mixed > 0:
            return m
    return -1


@njit
def step_bracket(returns, state, key, n, mask, switches, scratch, out):
    """Adds w x advantages of the step groups, the rows of a group with equal (state, key), to out.

    scratch: table [mask + 1] int32, filled with -1 here; the others have room for n values.
    """
    table, first, total, squares, count, ids = scratch
    loo, scale, eps, w = switches.baseline == LOO, switches.scale, switches.eps, switches.step_weight
    table[: mask + 1] = -1
    num = 0
    for i in range(n):
        x = np.uint64(key[i]) ^ (np.uint64(state[i]) << np.uint64(17))
        x = (x ^ (x >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
        slot = np.int64(x >> np.uint64(33)) & mask
        while True:
            j = table[slot]  # first row of the step group that lives here
            if j < 0 or (key[j] == key[i] and state[j] == state[i]):
                break
            slot = (slot + 1) & mask
        if j < 0:
            table[slot] = i
            ids[i] = num
            first[num] = returns[i]
            total[num] = 0.0
            count[num] = 1
            num += 1
        else:
            ids[i] = ids[j]
            count[ids[i]] += 1
            total[ids[i]] += returns[i] - first[ids[i]]
    for k in range(num):
        total[k] /= count[k]  # from here on the mean
        squares[k] = 0.0
    if scale == 1:
        for i in range(n):
            d = returns[i] - first[ids[i]] - total[ids[i]]
            squares[ids[i]] += d * d
    for k in range(num):
        factor = w
        if count[k] > 1 and loo:
            factor *= count[k] / (count[k] - 1.0)  # S - mean of the others = n / (n - 1) (S - mean)
        if scale == 1:
            factor /= deviation_of(squares[k], count[k], eps)
        squares[k] = factor if np.isfinite(total[k]) else np.nan
    for i in range(n):
        k = ids[i]
        above = returns[i] - first[k] - total[k]
        if count[k] > 1 and above != 0.0:
            out[i] += squares[k] * above


@njit
def meta_advantages(rewards, phase, episode, group, cu_trials, anchors, valid, switches, out):
    """Fills out; returns the first trial with turns of two groups, or -1.

    anchors, valid: empty where there are none. switches: `Numbers`.
    """
    own_score, paper = switches.episode_credit == OWN, switches.return_form == PAPER
    gamma_step, gamma_traj = switches.gamma_step, switches.gamma_traj
    loo, scale, eps = switches.baseline == LOO, np.int64(switches.scale), switches.eps
    num_trials = len(cu_trials) - 1
    names, g = np.zeros(num_trials, np.int64), np.zeros(num_trials, np.int32)
    bad = name_trials(group, cu_trials, names)
    if bad >= 0:
        return bad
    num_groups = number_pairs(np.zeros(num_trials, np.int32), 1, names, g)
    order, starts = group_starts(g, num_groups)
    size = 0
    for k in range(num_groups):
        n = 0
        for j in range(starts[k], starts[k + 1]):
            n += cu_trials[order[j] + 1] - cu_trials[order[j]]
        size = max(size, n)
    slots = 2
    while slots < 2 * size:
        slots *= 2
    returns, own, scores, result, unit_mean, first, total, step_squares = np.zeros((8, size))
    unit, ids, table = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(slots, np.int32)
    unit_rows, count, state, key = np.zeros((4, size), np.int64)
    include = np.ones(size, np.bool_)
    squares, all_units = 0.0, 0
    for k in range(num_groups):
        n = 0
        num_units = 0
        for j in range(starts[k], starts[k + 1]):
            start, end = cu_trials[order[j]], cu_trials[order[j] + 1]
            trial_returns(rewards, phase, episode, start, end, gamma_step, gamma_traj, paper, returns, n)
            if own_score:
                trial_returns(rewards, phase, episode, start, end, 1.0, 0.0, True, own, n)
            score = 0.0
            for i in range(start, end):
                if i == start or episode[i] != episode[i - 1]:
                    score = own[n] if own_score else returns[n]
                    num_units += switches.stats_unit == EPISODE or (
                        switches.stats_unit == TRIAL and i == start
                    )
                reflects = phase[i] != 0
                num_units += switches.stats_unit == TURN
                unit[n] = num_units - 1
                scores[n] = 0.0 if reflects and switches.reflection_score == ZERO else score
                if len(valid) > 0 and not valid[i]:
                    scores[n] -= switches.invalid_penalty
                include[n] = not (reflects and switches.reflection_score == EXCLUDE)
                if len(anchors) > 0:  # reflections have no board: those of a group compare with one another
                    key[n] = 0 if reflects else anchors[i]
                    state[n] = reflects + (
                        2 * np.int64(episode[i]) if switches.anchor_key == BY_EPISODE else 0
                    )
                n += 1
        more, units = group_bracket(
            scores, include, unit, n, num_units, loo, scale, False, eps, unit_rows, unit_mean, result
        )
        squares += more
        all_units += units
        if len(anchors) > 0:
            mask = 1
            while mask < 2 * n:
                mask *= 2
            scratch = (table, first, total, step_squares, count, ids)
            step_bracket(returns, state, key, n, mask - 1, switches, scratch, result)
        n = 0
        for j in range(starts[k], starts[k + 1]):
            start = cu_trials[order[j]]
            length = cu_trials[order[j] + 1] - start
            for i in range(length):
                out[start + i] = result[n + i]
            n += length
    if scale == 2:
        divide_by_deviation(out, squares, all_units, eps)
    return -1
