"""Consolidation (ERL, arXiv 2602.13949): a later episode that won, learned as if it had been the first.

Axis letters: M trials, R turns, K episodes of a trial, L loss tokens, H hidden.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.rollout.trial_batch import TURN_COLUMNS, Phase, TrialBatch
from lamer_kernels import linear_policy_loss
from lamer_kernels.head.policy import PolicyLoss


def as_first_attempts(trials: TrialBatch) -> TrialBatch:
    """The same M trials, of which those have turns that won a later episode: the turns of that episode, in a
    sequence that is the trial's first prompt followed by them. No earlier episode and no note is in it.

    Every episode begins in the same state, so that the first prompt shows what the later one began with; what
    stands between two replies of an episode is the same in every episode. Replies that could not be parsed
    stay in the sequence, without a turn of theirs: nothing is learned from them. For contexts `trial` and
    `episode`; with `held`, both sequences of a trial are on one rank.
    """
    won = trials.success_by_episode[trials.trial, trials.episode]
    played = (trials.episode > 0) & won & (trials.phase == Phase.PLAY)
    cu_seqlens, rows, firsts, sources, moved = [0], [], [], [], []
    for m in np.unique(trials.trial[played]).tolist():
        of_trial = np.arange(*trials.cu_trials[m : m + 2])
        own = of_trial[played[of_trial]]
        first, start, end = of_trial[0], trials.token_start[own[0]], trials.token_end[own[-1]]
        prompt = slice(trials.cu_seqlens[trials.sequence[first]], trials.token_start[first])
        offset = cu_seqlens[-1] + prompt.stop - prompt.start - start  # from a place in `trials` to one here
        cu_seqlens.append(int(offset + end))
        firsts.append(own[0])
        sources += [prompt, slice(start, end)]
        taught = own[trials.valid[own]]
        rows.append(taught)
        moved.append(np.stack([np.full(len(taught), offset), np.full(len(taught), len(cu_seqlens) - 2)]))
    kept = np.concatenate([np.zeros(0, np.int64), *rows])
    offsets, sequence = np.concatenate([np.zeros((2, 0), np.int64), *moved], axis=1)
    columns: dict[str, Any] = {name: getattr(trials, name)[kept] for name in TURN_COLUMNS}
    columns |= {name: columns[name] + offsets for name in ("token_start", "token_end")}
    columns |= {"sequence": sequence.astype(np.int32), "episode": np.zeros_like(columns["episode"])}
    won_later = np.logical_or.reduce(trials.success_by_episode[:, 1:], axis=1)
    tokens = _of(trials.tokens, sources)
    loss_mask = np.zeros(len(tokens), np.bool_)
    for a, b in zip(columns["token_start"], columns["token_end"], strict=True):
        loss_mask[a:b] = True
    return TrialBatch(
        tokens=tokens,
        loss_mask=loss_mask,
        rollout_logprobs=np.zeros(len(tokens), np.float32),  # in this context nobody has sampled them
        cu_seqlens=np.array(cu_seqlens, np.int64),
        **columns,
        cu_trials=np.cumsum([0, *np.bincount(columns["trial"], minlength=trials.num_trials)]),
        seed=trials.seed,
        task=trials.task,
        success_by_episode=won_later[:, None],
        errors=trials.errors,
        held=None if trials.held is None else trials.held[trials.sequence[np.array(firsts, np.int64)]],
    )


def _of(store: NDArray[Any], slices: list[slice]) -> NDArray[Any]:
    return np.concatenate([store[:0], *(store[piece] for piece in slices)])


def imitation(hidden: Tensor, weight: Tensor, batch: PolicyBatch, head_gradient: Tensor | None) -> PolicyLoss:
    """An `Objective`: sum over tokens of token_weight x advantage x -log-probability."""
    return linear_policy_loss(
        hidden,
        weight,
        batch.packed.targets,
        None,
        batch.advantages,
        token_weights=batch.token_weights,
        temperature=batch.temperature,
        loss="reinforce",
        dweight_out=head_gradient,
    )
