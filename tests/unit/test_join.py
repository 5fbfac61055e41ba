"""Trials of several ranks, joined: the turns of all, the tokens of one, the minibatches of one process."""

from itertools import chain

import numpy as np
import pytest

from lamer_fast.algo.packing import pack
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.join import join, without_tokens
from lamer_fast.rollout.trial_batch import TURN_COLUMNS, TrialBatch
from tests.hand_made import make_trials

GROUPS, PER_GROUP = 3, 3
LIMITS = RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10)
BOARDS = Boards(
    np.arange(GROUPS * PER_GROUP, dtype=np.uint64), np.repeat(np.arange(GROUPS, dtype=np.int32), PER_GROUP)
)


def part_of(whole: TrialBatch, rank: int, world: int) -> TrialBatch:
    """What a rank would have collected: its trials, numbered from 0, with their tokens."""
    mine = BOARDS.share(rank, world).trial
    rows = np.flatnonzero(np.isin(whole.trial, mine))
    sequences = np.unique(whole.sequence[rows])
    starts, ends = whole.cu_seqlens[sequences], whole.cu_seqlens[sequences + 1]
    at = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [np.zeros(0, int)])
    cu_seqlens = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
    sequence = np.searchsorted(sequences, whole.sequence[rows]).astype(np.int32)
    shift = cu_seqlens[sequence] - whole.cu_seqlens[whole.sequence[rows]]
    trial = np.searchsorted(mine, whole.trial[rows]).astype(np.int32)
    columns = {name: getattr(whole, name)[rows] for name in TURN_COLUMNS}
    columns |= {"trial": trial, "sequence": sequence}
    columns |= {name: columns[name] + shift for name in ("token_start", "token_end")}
    return TrialBatch(
        tokens=whole.tokens[at], loss_mask=whole.loss_mask[at], rollout_logprobs=whole.rollout_logprobs[at],
        cu_seqlens=cu_seqlens, **columns,
        cu_trials=np.concatenate([[0], np.cumsum(np.bincount(trial, minlength=len(mine)))]),
        seed=whole.seed[mine], task=whole.task[mine], success_by_episode=whole.success_by_episode[mine],
        errors={int(np.searchsorted(mine, t)): text for t, text in whole.errors.items() if t in mine},
    )  # fmt: skip


def joined(whole: TrialBatch, world: int) -> list[TrialBatch]:
    parts = [part_of(whole, rank, world) for rank in range(world)]
    told = [without_tokens(part) for part in parts]
    return [join(told, part, rank, BOARDS) for rank, part in enumerate(parts)]


@pytest.mark.parametrize("world", [1, 2, 3, 4])  # the fourth has no group
def test_turns_are_those_of_one_process_and_tokens_are_where_they_were_sampled(world):
    whole = make_trials(1, GROUPS, PER_GROUP, empty=(4,))
    moved = {"sequence", "token_start", "token_end"}  # sequences stand rank by rank
    for trials in joined(whole, world):
        trials.validate()
        for name in {*TURN_COLUMNS, "cu_trials", "seed", "task", "success_by_episode"} - moved:
            assert np.array_equal(getattr(trials, name), getattr(whole, name)), name
        assert trials.errors == whole.errors and trials.num_sampled == whole.num_sampled
        for row in range(trials.num_turns):
            if trials.held is None or trials.held[trials.sequence[row]]:
                ours = trials.tokens[trials.token_start[row] : trials.token_end[row]]
                assert np.array_equal(ours, whole.tokens[whole.token_start[row] : whole.token_end[row]])


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_pack_the_minibatches_of_one(world, aggregation):
    whole = make_trials(2, GROUPS, PER_GROUP)
    algo, learn = AlgoConfig(aggregation=aggregation), LearnConfig(minibatches=2, max_microbatch_tokens=250)
    config = Config(rollout=LIMITS, algo=algo, learn=learn)
    advantages = np.random.default_rng(0).normal(size=whole.num_turns).astype(np.float32)

    def contents(minibatches):
        """(target, advantage, weight) of every loss token of a minibatch, sorted."""
        return [
            sorted(
                token
                for b in minibatch
                for token in zip(
                    b.packed.targets.tolist(), b.advantages.tolist(), b.token_weights.tolist(), strict=True
                )
            )
            for minibatch in minibatches
        ]

    expected = contents(pack(whole, advantages, config))
    of_ranks = [contents(pack(trials, advantages, config)) for trials in joined(whole, world)]
    assert [sorted(chain(*parts)) for parts in zip(*of_ranks, strict=True)] == expected
