"""success@k of rollouts from a file, with the intervals of every other evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lamer_fast.eval.dump import Rollout
from lamer_fast.eval.success import Evaluation, pass_at, success_within, summarize

MOST = 8  # success@1..8 of independent attempts, unless more are asked for
Trials = dict[str, dict[str, list[bool]]]  # task -> trial -> was episode k won


def score(rollouts: Sequence[Rollout], episodes: int | None = None) -> dict[str, Evaluation]:
    """By panel. The episodes of a trial give success@k within it, first episodes pass@k of attempts.

    Where a task has n attempts, pass@k is the unbiased estimator over all subsets of k of them. Columns go as
    far as every task goes. The unit of the intervals is the task, whatever the number of its trials.

    Args:
        episodes: K; None is the longest trial's, and of attempts at most MOST.

    Raises:
        ValueError: an episode is there twice or missing, a panel has two digests, or there is one task.
    """
    panels: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        panels.setdefault(rollout.panel, []).append(rollout)
    return {name: _evaluation(name, panels[name], episodes) for name in sorted(panels)}


def _evaluation(name: str, rollouts: Sequence[Rollout], episodes: int | None) -> Evaluation:
    trials = _trials(rollouts)
    if len(trials) < 2:
        raise ValueError(f"the rollouts are of {len(trials)} task, an interval needs two")
    digests = sorted({rollout.digest for rollout in rollouts})
    if len(digests) > 1:
        raise ValueError(
            f"panel_digest is {digests[0] or 'missing'} on some lines and {digests[1]} on others"
        )
    longest = max(len(won) for by_trial in trials.values() for won in by_trial.values())
    fewest = min(map(len, trials.values()))
    K = 0 if longest == 1 else min(longest, episodes or longest)
    attempts = 0 if longest > 1 and fewest == 1 else min(fewest, episodes or MOST)
    within = np.array([_within(by_trial, longest)[:K] for by_trial in trials.values()], np.float64)
    passes = np.array([_passes(by_trial)[:attempts] for by_trial in trials.values()], np.float64)
    found = summarize(
        "dump", within.reshape(len(trials), K), passes.reshape(len(trials), attempts), trials_per_task=fewest,
        attempts_per_task=fewest, tasks=list(trials), panel=digests[0] or _digest(trials),
    )  # fmt: skip
    lost = {(rollout.task, rollout.trial) for rollout in rollouts if rollout.lost}
    return replace(found, lost=len(lost))


def _trials(rollouts: Sequence[Rollout]) -> Trials:
    found: dict[str, dict[str, dict[int, Rollout]]] = {}
    for rollout in rollouts:
        by_episode = found.setdefault(rollout.task, {}).setdefault(rollout.trial, {})
        if other := by_episode.get(rollout.episode):
            raise ValueError(
                f"{rollout.place}: task {rollout.task}, trial {rollout.trial!r}, episode {rollout.episode} "
                f"is that of {other.place} too: give each trial a number of its own, as trial"
            )
        by_episode[rollout.episode] = rollout
    for task, by_trial in found.items():
        for trial, by_episode in by_trial.items():
            missing = sorted(set(range(max(by_episode))) - by_episode.keys())
            if missing:
                place = by_episode[max(by_episode)].place
                raise ValueError(f"{place}: task {task}, trial {trial} has no episode {missing[0]}")
    return {
        task: {trial: [e[k].success for k in sorted(e)] for trial, e in by_trial.items()}
        for task, by_trial in found.items()
    }


def _within(by_trial: dict[str, list[bool]], longest: int) -> NDArray[np.float64]:
    """[longest], the share of a task's trials that won within k episodes; an ended one wins no more."""
    won = np.array([trial + [False] * (longest - len(trial)) for trial in by_trial.values()])
    mean: NDArray[np.float64] = success_within(won).mean(axis=0)
    return mean


def _passes(by_trial: dict[str, list[bool]]) -> NDArray[np.float64]:
    """[trials], pass@k of a task's first episodes."""
    passes: NDArray[np.float64] = pass_at(np.array([[trial[0] for trial in by_trial.values()]]))[0]
    return passes


def _digest(trials: Trials) -> str:
    """Of a set of tasks whose panel nobody named."""
    content = "\0".join(["dump", *sorted(trials)])
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
