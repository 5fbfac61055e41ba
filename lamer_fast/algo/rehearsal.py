"""Small trials and a small batch, made by hand: on them a user's own functions are tried before any work."""

import numpy as np
import torch

from lamer_fast.learn.batch import Packed, PolicyBatch
from lamer_fast.rollout.trial_batch import Phase, TrialBatch


def small_trials() -> TrialBatch:
    """Two groups of two trials. Each trial: an episode of one lost turn, a reflection, an episode of one
    turn, which two of the four win. Every turn is a token of prompt and a sampled one."""
    M, turns = 4, 3
    R = M * turns
    play = np.tile([True, False, True], M)
    won = np.repeat([True, False, False, True], turns) & np.tile([False, False, True], M)
    sampled = np.tile([False, True], R)
    each = np.arange(M)
    return TrialBatch(
        tokens=np.arange(2 * R, dtype=np.int32),
        loss_mask=sampled,
        rollout_logprobs=np.where(sampled, -1.0, 0.0).astype(np.float32),
        cu_seqlens=np.arange(M + 1, dtype=np.int64) * 2 * turns,
        group=np.repeat(each // 2, turns).astype(np.int32),
        trial=np.repeat(each, turns).astype(np.int32),
        episode=np.tile([0, 1, 1], M).astype(np.int16),
        turn=np.zeros(R, np.int16),
        phase=np.where(play, Phase.PLAY, Phase.REFLECT).astype(np.uint8),
        rewards=won.astype(np.float32),
        anchors=np.where(play, 1, 0).astype(np.int64),
        valid=np.ones(R, bool),
        done=play,
        success=won,
        truncated=np.zeros(R, bool),
        sequence=np.repeat(each, turns).astype(np.int32),
        token_start=2 * np.arange(R, dtype=np.int64) + 1,
        token_end=2 * np.arange(R, dtype=np.int64) + 2,
        policy_version=np.zeros(R, np.int32),
        cu_trials=np.arange(M + 1, dtype=np.int64) * turns,
        seed=np.arange(M, dtype=np.uint64) // 2,
        task=np.arange(M, dtype=np.uint64) // 2,
        success_by_episode=np.array([[False, True], [False, False], [False, False], [False, True]]),
        errors={},
    )


def small_batch() -> PolicyBatch:
    """Eight tokens of two turns, as a first update sees them: on policy, one advantage of each sign."""
    L = 8
    logprobs = -torch.linspace(0.1, 2.0, L)
    packed = Packed(
        input_ids=torch.arange(L + 1),
        position_ids=torch.arange(L + 1),
        cu_seqlens=torch.tensor([0, L + 1], dtype=torch.int32),
        max_seqlen=L + 1,
        token_idx=torch.arange(L),
        targets=torch.arange(1, L + 1),
    )
    return PolicyBatch(
        packed,
        rollout_logprobs=logprobs,
        advantages=torch.tensor([1.0] * 4 + [-0.5] * 4),
        token_weights=torch.full((L,), 1 / L),
        temperature=1.0,
        cu_segments=torch.tensor([0, 4, 8]),
        old_logprobs=logprobs,
        ref_logprobs=logprobs,
    )
