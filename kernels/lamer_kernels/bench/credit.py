"""How fast is credit assignment (GiGPO + cross-episode returns) on one CPU thread, and packing?

Baselines: numpy tuned for this very case (sorting by radix and vector instructions, no Python per row), and
plain Python with one dictionary access per turn, linear, at a small size. The released implementations are
slower than the latter by a quadratic pass over all turns; no number of theirs is extrapolated here.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import cross_episode_returns, meta_advantages
from .._core.dispatch import FEW_ROWS, HAS_NUMBA
from .harness import Case, Row, compare

Array = NDArray[Any]
GAMMA_STEP, GAMMA_TRAJ, PENALTY = 0.95, 0.6, 0.5


def cases(device: str, shape: str | None = None, sizes: tuple[int, ...] = ()) -> list[Case]:
    """No model has a part in it; sizes are turns."""
    turns = sizes or (100_000, 3_000, 1_000_000)
    found = [Case(op="gigpo + returns", R=R) for R in turns] + [Case(op="returns", R=R) for R in turns[:1]]
    if not device.startswith("cuda"):
        found.append(Case(op="per turn in Python", R=min(10_000, *turns)))
    return found


def make_trials(num_turns: int) -> dict[str, Array]:
    """About num_turns turns: 8 trials a group, 1 to 3 episodes of 2 to 7 turns, states that often recur."""
    rng = np.random.default_rng(0)
    num_trials = num_turns // 80 * 8
    episodes = rng.integers(1, 4, num_trials)
    starts = np.cumsum(episodes) - episodes
    episode_of = np.arange(episodes.sum()) - np.repeat(starts, episodes)
    rows = rng.integers(2, 8, len(episode_of)) + (episode_of > 0)
    row_episode = np.repeat(np.arange(len(rows)), rows)
    position = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    episode = episode_of[row_episode].astype(np.int16)
    phase = ((episode > 0) & (position == 0)).astype(np.uint8)
    trial = np.repeat(np.arange(num_trials), episodes)[row_episode]
    group = (trial // 8).astype(np.int32)
    turn = position - (episode > 0)
    boards = rng.integers(-(2**63), 2**63 - 1, (group.max() + 1, 7, 13))
    return {
        "rewards": rng.choice(np.array([0, 0, 0.5, -1, 10], np.float32), len(trial)),
        "phase": phase,
        "episode": episode,
        "group": group,
        "cu_trials": np.concatenate([[0], np.flatnonzero(np.diff(trial)) + 1, [len(trial)]]),
        "anchors": boards[group, np.maximum(turn, 0), rng.integers(0, 2 * np.maximum(turn, 0) + 1)],
        "valid": rng.random(len(trial)) < 0.95,
    }


def numpy_returns(rewards: Array, phase: Array, episode: Array, cu_trials: Array) -> Array:
    """All trials at once, from their ends backwards; the longest first, so that live ones are a prefix."""
    lengths = np.diff(cu_trials)
    order = np.argsort(-lengths, kind="stable")
    ends, lengths = cu_trials[1:][order], lengths[order]
    live = np.searchsorted(-lengths, -np.arange(1, lengths[0] + 1), side="right")
    rewards, out = np.where(phase == 0, rewards, 0.0), np.zeros(len(rewards))
    g, future, following = np.zeros(len(ends)), np.zeros(len(ends)), episode[ends - 1]
    for back, n in enumerate(live, 1):
        rows = ends[:n] - back
        play = phase[rows] == 0
        crosses = play & (episode[rows] != following[:n])
        future[:n] = np.where(crosses, GAMMA_TRAJ * (g[:n] + future[:n]), future[:n])
        g[:n] = np.where(play, rewards[rows] + np.where(crosses, 0.0, GAMMA_STEP * g[:n]), g[:n])
        following[:n] = episode[rows]
        out[rows] = g[:n] + future[:n]
    return out


def numpy_gigpo(
    rewards: Array, phase: Array, episode: Array, group: Array, cu_trials: Array, anchors: Array, valid: Array
) -> Array:
    """The default switches. Uses that groups are numbered 0, 1, ... and that no trial is empty."""
    returns = numpy_returns(rewards, phase, episode, cu_trials)
    new = np.empty(len(rewards), bool)
    new[1:] = episode[1:] != episode[:-1]
    new[cu_trials[:-1]] = True
    scores = np.repeat(returns[new], np.diff(np.flatnonzero(new), append=len(new))) - PENALTY * ~valid
    trial_group = group[cu_trials[:-1]]
    trial_mean = np.add.reduceat(scores, cu_trials[:-1]) / np.diff(cu_trials)
    out = scores - (np.bincount(trial_group, trial_mean) / np.bincount(trial_group))[group]
    key, outer = np.where(phase == 0, anchors, 0), 2 * group + phase
    order = np.argsort(key)
    small = np.uint16 if outer[-1] < 2**16 else np.int32  # numpy sorts 16-bit keys by radix
    order = order[np.argsort(outer[order].astype(small), kind="stable")]
    key, outer = key[order], outer[order]
    new[1:] = (key[1:] != key[:-1]) | (outer[1:] != outer[:-1])
    new[0] = True
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=len(new))
    in_order = returns[order]
    step = in_order - np.repeat(np.add.reduceat(in_order, starts) / counts, counts)
    step[np.repeat(counts == 1, counts)] = 0.0
    out[order] += step
    return out.astype(rewards.dtype)


def python_gigpo(
    rewards: Any, phase: Any, episode: Any, group: Any, cu_trials: Any, anchors: Any, valid: Any
) -> Array:
    """One turn at a time, linear: lists and dictionaries."""
    rewards, phase, episode, group, anchors, valid = (
        x.tolist() for x in (rewards, phase, episode, group, anchors, valid)
    )
    returns, scores = [0.0] * len(rewards), [0.0] * len(rewards)
    trial_means: dict[int, list[float]] = defaultdict(list)
    for start, end in zip(cu_trials[:-1].tolist(), cu_trials[1:].tolist(), strict=True):
        g = future = 0.0
        following = episode[end - 1]
        for t in range(end - 1, start - 1, -1):
            if phase[t] == 0:
                if episode[t] != following:
                    g, future = 0.0, GAMMA_TRAJ * (g + future)
                g = rewards[t] + GAMMA_STEP * g
            following = episode[t]
            returns[t] = g + future
        for t in range(start, end):
            if t == start or episode[t] != episode[t - 1]:
                score = returns[t]
            scores[t] = score - (0.0 if valid[t] else PENALTY)
        trial_means[group[start]].append(sum(scores[start:end]) / (end - start))
    base = {name: sum(means) / len(means) for name, means in trial_means.items()}
    steps: dict[Any, list[float]] = defaultdict(list)
    keys = [(g, p, 0 if p else a) for g, p, a in zip(group, phase, anchors, strict=True)]
    for key, value in zip(keys, returns, strict=True):
        steps[key].append(value)
    step_base = {key: sum(values) / len(values) for key, values in steps.items()}
    rows = zip(scores, group, returns, keys, strict=True)
    return np.array([s - base[g] + r - step_base[key] for s, g, r, key in rows], np.float32)


def close(a: Any, b: Any) -> bool:
    a, b = (x.cpu().numpy() if isinstance(x, torch.Tensor) else x for x in (a, b))
    return np.allclose(a, b, rtol=1e-5, atol=1e-5)


def bench(case: Case) -> list[Row]:
    if case.device.startswith("cuda"):
        return bench_gpu(case)
    torch.set_num_threads(1)
    trials: dict[str, Any] = make_trials(case.R)
    turns = [trials[name] for name in ("rewards", "phase", "episode", "cu_trials")]
    if case.op == "returns":
        gammas: dict[str, Any] = {"gamma_step": GAMMA_STEP, "gamma_traj": GAMMA_TRAJ}
        providers = {
            "lamer_kernels": lambda: cross_episode_returns(*turns, **gammas),
            "numpy": lambda: numpy_returns(*turns),
        }
        if compiles_on_request(case.R):
            providers["numba"] = lambda: cross_episode_returns(*turns, **gammas, backend="cpu")
        return compare(providers, check=close)
    providers = {"lamer_kernels": lambda: meta_advantages(**trials), "numpy": lambda: numpy_gigpo(**trials)}
    if compiles_on_request(case.R):
        providers["numba"] = lambda: meta_advantages(**trials, backend="cpu")
    if case.op == "per turn in Python":
        providers["Python"] = lambda: python_gigpo(**trials)
    return compare(
        providers,
        check=close,
        goal=5e-3 if case.R == 100_000 else None,
        repeats=7 if case.R > 100_000 else 25,
    )


def compiles_on_request(num_turns: int) -> bool:
    """So few that auto does without numba, whose code is then a row of its own."""
    return HAS_NUMBA and num_turns <= FEW_ROWS


def bench_gpu(case: Case) -> list[Row]:
    """Fused kernels, ops put together, the reference in torch: on the GPU, held to numpy's result."""
    host = make_trials(case.R)
    trials: dict[str, Any] = {name: torch.from_numpy(x).to(case.device) for name, x in host.items()}
    turns = [trials[name] for name in ("rewards", "phase", "episode", "cu_trials")]
    if case.op == "returns":
        call = partial(cross_episode_returns, *turns, gamma_step=GAMMA_STEP, gamma_traj=GAMMA_TRAJ)
        truth = numpy_returns(*(host[name] for name in ("rewards", "phase", "episode", "cu_trials")))
        providers = {"lamer_kernels": call, "torch": partial(call, backend="reference")}
    else:
        call = partial(meta_advantages, **trials)
        truth = numpy_gigpo(**host)
        providers = {
            "lamer_kernels": partial(call, grouped=True),
            "not grouped": call,
            "torch": partial(call, backend="reference"),
        }
    verify = lambda: close(providers["lamer_kernels"](), truth)  # noqa: E731
    return compare(providers, check=close, verify=verify, clock="cuda", repeats=15)
