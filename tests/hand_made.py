"""TrialBatches made by hand: random ragged trials without a model or an environment."""

from dataclasses import replace

import numpy as np

from lamer_fast.rollout.trial_batch import Phase, TrialBatch

VOCAB = 100


def make_trials(
    seed: int = 0, groups: int = 2, trials_per_group: int = 3, episodes: int = 3, empty: tuple[int, ...] = ()
) -> TrialBatch:
    """Context `trial`: one sequence per trial of prompts and sampled turns of 1 to 9 tokens.

    Trials in `empty` have no turns and no tokens, as after a failure of their environment.
    """
    rng = np.random.default_rng(seed)
    M = groups * trials_per_group
    tokens, mask, cu_seqlens, turns, cu_trials = [], [], [0], [], [0]
    sequence = 0
    for m in range(M):
        if m not in empty:
            for k in range(int(rng.integers(1, episodes + 1))):
                phases = ([(Phase.REFLECT, 0)] if k else []) + [
                    (Phase.PLAY, t) for t in range(rng.integers(1, 4))
                ]
                for phase, t in phases:
                    prompt, reply = (rng.integers(0, VOCAB, n) for n in rng.integers(1, 10, 2))
                    start = len(tokens) + len(prompt)
                    tokens += [*prompt, *reply]
                    mask += [False] * len(prompt) + [True] * len(reply)
                    turns.append((m // trials_per_group, m, k, t, phase, start, len(tokens), sequence))
            sequence += 1
            cu_seqlens.append(len(tokens))
        cu_trials.append(len(turns))
    table = np.array(turns).T
    R, T = len(turns), len(tokens)
    play = table[4] == Phase.PLAY
    rewards = np.where(play, rng.integers(-1, 4, R), 0).astype(np.float32)
    loss_mask = np.array(mask, bool)
    batch = TrialBatch(
        tokens=np.array(tokens, np.int32),
        loss_mask=loss_mask,
        rollout_logprobs=np.where(loss_mask, -rng.random(T) * 4, 0).astype(np.float32),
        cu_seqlens=np.array(cu_seqlens, np.int64),
        group=table[0].astype(np.int32),
        trial=table[1].astype(np.int32),
        episode=table[2].astype(np.int16),
        turn=table[3].astype(np.int16),
        phase=table[4].astype(np.uint8),
        rewards=rewards,
        anchors=np.where(play, rng.integers(0, 4, R), 0),
        valid=rng.random(R) < 0.8,
        done=np.zeros(R, bool),
        success=np.zeros(R, bool),
        truncated=np.zeros(R, bool),
        sequence=table[7].astype(np.int32),
        token_start=table[5].astype(np.int64),
        token_end=table[6].astype(np.int64),
        policy_version=np.zeros(R, np.int32),
        cu_trials=np.array(cu_trials, np.int64),
        seed=np.arange(M, dtype=np.uint64),
        task=np.arange(M, dtype=np.uint64),
        success_by_episode=np.zeros((M, episodes), bool),
        errors={m: "made empty" for m in empty},
    )
    batch.validate()
    return batch


def won_later(trials: TrialBatch) -> TrialBatch:
    """Every trial that has a second episode has won its last one."""
    success = trials.success_by_episode.copy()
    last = np.zeros(trials.num_trials, np.int64)
    np.maximum.at(last, trials.trial, trials.episode)
    success[np.arange(trials.num_trials), last] = last > 0
    return replace(trials, success_by_episode=success)
