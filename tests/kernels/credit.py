"""Inputs and plain loops of the credit tests; the loops are written from the equations, one row at a time."""

from itertools import pairwise

import numpy as np
import torch

BACKENDS = ["reference", "cpu"]


def trial_of(episodes, reflect=True):
    """Turn table of one trial from the rewards of its episodes, a reflection before each but the first."""
    rewards, phase, episode = [], [], []
    for n, played in enumerate(episodes):
        if n and reflect:
            rewards.append(7.0)  # must be ignored
            phase.append(1)
            episode.append(n)
        for reward in played:
            rewards.append(reward)
            phase.append(0)
            episode.append(n)
    return rewards, phase, episode


def table(trials, dtype=np.float64):
    """(rewards, phase, episode, cu_trials) of several trials with the dtypes of a turn table."""
    columns = [trial_of(episodes) for episodes in trials]
    rewards, phase, episode = ([x for column in columns for x in column[i]] for i in range(3))
    cu_trials = np.cumsum([0] + [len(c[0]) for c in columns])
    return np.array(rewards, dtype), np.array(phase, np.uint8), np.array(episode, np.int16), cu_trials


def make_trials(seed, groups=3, trials=4, max_turns=5, dtype=np.float64):
    """Random trials as keywords of `meta_advantages`: ragged, some solved early, repeated anchors."""
    rng = np.random.default_rng(seed)
    played = []
    for _ in range(groups * trials):
        lengths = rng.integers(1, max_turns + 1, rng.integers(1, 4))
        played.append([rng.choice([-1.0, 0.0, 0.1, 10.0], n).tolist() for n in lengths])
    rewards, phase, episode, cu_trials = table(played, dtype)
    num_rows = len(rewards)
    names = rng.permutation(groups).astype(np.int32)
    anchors = rng.integers(-(2**63), 2**63 - 1, 6)
    return {
        "rewards": rewards,
        "phase": phase,
        "episode": episode,
        "group": np.repeat(np.repeat(names, trials), np.diff(cu_trials)),
        "cu_trials": cu_trials,
        "anchors": anchors[rng.integers(0, 6, num_rows)],
        "valid": rng.random(num_rows) < 0.8,
    }


def returns_loop(rewards, phase, episode, cu_trials, gamma_step, gamma_traj, return_form):
    """Equations 4 to 6 of the paper as sums, and the closed form of the released code."""
    out = np.zeros(len(rewards))
    for start, end in pairwise(cu_trials):
        later = 0.0  # sum over m > n of gamma_traj^(m-n) g_0(m), or gamma_traj G_0(n+1)
        for n in sorted(set(episode[start:end].tolist()), reverse=True):
            rows = [t for t in range(start, end) if episode[t] == n and phase[t] == 0]
            for i, t in enumerate(rows):
                own = sum(gamma_step**k * rewards[u] for k, u in enumerate(rows[i:]))
                left = 1.0 if return_form == "paper" else gamma_step ** (len(rows) - 1 - i)
                out[t] = own + left * later
            first = out[rows[0]] if rows else 0.0
            out[[t for t in range(start, end) if episode[t] == n and phase[t] == 1]] = first
            later = gamma_traj * first
    return out


def group_loop(scores, group, unit, include=None, baseline="mean", scale="none", singleton="zero", eps=1e-6):
    """The table in the docstring of `group_advantages`; `unit` holds one hashable per row."""
    num_rows = len(scores)
    rows = [i for i in range(num_rows) if include is None or include[i]]
    weight = {i: 1 / sum(unit[j] == unit[i] and group[j] == group[i] for j in rows) for i in rows}
    out = np.zeros(num_rows)
    for i in rows:
        mates = [j for j in rows if group[j] == group[i]]
        n = len({unit[j] for j in mates})
        mean = sum(weight[j] * scores[j] for j in mates) / n
        if n == 1:
            out[i] = scores[i] if singleton == "score" else 0.0
        elif len({scores[j] for j in mates}) == 1:  # the contract, which a rounded mean would miss by 1e-16
            out[i] = 0.0
        elif baseline == "mean":
            out[i] = scores[i] - mean
        else:
            out[i] = scores[i] - sum(weight[j] * scores[j] for j in mates if unit[j] != unit[i]) / (n - 1)
        if scale == "std" and n > 1:
            out[i] /= np.sqrt(sum(weight[j] * (scores[j] - mean) ** 2 for j in mates) / (n - 1)) + eps
    if scale == "batch_std":
        num_units = len({(group[i], unit[i]) for i in rows})
        out /= np.sqrt(sum(weight[i] * out[i] ** 2 for i in rows) / max(num_units - 1, 1)) + eps
    return out


def same_bits(a, b):
    return a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def tensors(columns):
    return {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in columns.items()}
