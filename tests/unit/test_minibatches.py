"""pack: every trained token exactly once, in its place, with the weight of its whole minibatch."""

from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.algo.credit import lone_turns
from lamer_fast.algo.packing import epochs, pack
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig
from lamer_fast.rollout.trial_batch import Phase
from tests.hand_made import make_trials


def config(**learn: object) -> Config:
    settings = {"minibatches": 2, "max_microbatch_tokens": 200} | learn
    rollout = RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10)
    return Config(rollout=rollout, learn=LearnConfig(**settings))


def advantages_of(trials):
    return np.arange(1, trials.num_turns + 1, dtype=np.float32)  # tells turns apart


@pytest.mark.parametrize("seed", range(5))
def test_packed_tokens_are_those_of_the_turns(seed):
    trials = make_trials(seed, groups=4, trials_per_group=3)
    advantages = advantages_of(trials)
    seen = []
    for minibatch in pack(trials, advantages, config()):
        for b in minibatch:
            packed = b.packed
            assert len(packed.input_ids) <= 200
            assert int(packed.cu_seqlens[-1]) == len(packed.input_ids) and int(b.cu_segments[-1]) == len(
                packed.targets
            )
            assert packed.max_seqlen == int(packed.cu_seqlens.diff().max())
            starts = packed.cu_seqlens[:-1].repeat_interleave(packed.cu_seqlens.diff())
            assert (
                packed.position_ids.tolist() == (np.arange(len(packed.input_ids)) - starts.numpy()).tolist()
            )
            assert (
                packed.input_ids[packed.token_idx + 1] == packed.targets
            ).all()  # a target follows what predicts it
            for u in range(len(b.cu_segments) - 1):
                part = slice(int(b.cu_segments[u]), int(b.cu_segments[u + 1]))
                row = int(b.advantages[part][0]) - 1
                seen.append(row)
                span = slice(trials.token_start[row], trials.token_end[row])
                assert (b.advantages[part] == advantages[row]).all()
                assert packed.targets[part].tolist() == trials.tokens[span].tolist()
                np.testing.assert_array_equal(b.rollout_logprobs[part].numpy(), trials.rollout_logprobs[span])
    assert sorted(seen) == list(range(trials.num_turns))


def test_a_trial_stays_in_one_minibatch_and_tokens_are_balanced():
    trials = make_trials(3, groups=8, trials_per_group=8)
    minibatches = pack(trials, advantages_of(trials), config(minibatches=4))
    owners = [{int(trials.trial[int(a) - 1]) for b in m for a in b.advantages.unique()} for m in minibatches]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 64
    tokens = [sum(len(b.packed.targets) for b in m) for m in minibatches]
    assert max(tokens) - min(tokens) <= 0.1 * max(tokens)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_weights_are_of_the_whole_minibatch(aggregation):
    trials = make_trials(1, groups=4)
    c = replace(config(), algo=AlgoConfig(aggregation=aggregation))
    for minibatch in pack(trials, advantages_of(trials), c):
        num_tokens = sum(len(b.packed.targets) for b in minibatch)
        num_turns = sum(len(b.cu_segments) - 1 for b in minibatch)
        for b in minibatch:
            turn_tokens = b.cu_segments.diff().repeat_interleave(b.cu_segments.diff())
            expected = {
                "token_mean": 1 / num_tokens,
                "sequence_mean": 1 / (num_turns * turn_tokens.numpy()),
                "constant": 1 / (num_turns * c.rollout.max_reply_tokens),
            }[aggregation]
            np.testing.assert_allclose(b.token_weights.numpy(), expected, rtol=1e-6)


def test_sequences_without_any_coefficient_cost_nothing_but_count():
    trials = make_trials(2, groups=4)
    advantages = np.where(trials.trial == 5, 1.0, 0.0).astype(np.float32)
    no_entropy = replace(config(minibatches=1), algo=AlgoConfig(entropy_coef=0.0))
    (minibatch,) = pack(trials, advantages, no_entropy)
    assert len(minibatch) == 1 and len(minibatch[0].packed.cu_seqlens) == 2
    trained = (trials.token_end - trials.token_start).sum()
    np.testing.assert_allclose(minibatch[0].token_weights.numpy(), 1 / trained, rtol=1e-6)
    (everything,) = pack(trials, advantages, config(minibatches=1))
    assert sum(len(b.packed.targets) for b in everything) == trained


def test_lone_trials_and_failed_ones_are_left_out():
    trials = make_trials(4, groups=3, trials_per_group=3, empty=(3, 5, 6))  # group 1 has one trial left
    lone = lone_turns(trials, AlgoConfig())
    assert set(trials.trial[lone]) == {4}
    packed = {
        int(a) - 1 for m in pack(trials, advantages_of(trials), config()) for b in m for a in b.advantages
    }
    assert packed == set(np.flatnonzero(~lone))
    assert not lone_turns(trials, AlgoConfig(estimator="reinforce++")).any()


def test_shuffle_depends_on_seed_and_iteration_alone():
    trials = make_trials(0, groups=8)

    def first(iteration: int) -> set[int]:
        minibatch = pack(trials, advantages_of(trials), config(), iteration=iteration)[0]
        return {int(trials.trial[int(a) - 1]) for b in minibatch for a in b.advantages}

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_epochs_repeat_and_wrong_lengths_are_refused():
    trials = make_trials(0)
    minibatches = pack(trials, advantages_of(trials), config())
    assert list(epochs(minibatches, 2)) == minibatches * 2
    with pytest.raises(ValueError, match=rf"advantages has 3 entries, the turn table {trials.num_turns}"):
        pack(trials, np.zeros(3, np.float32), config())


def test_frozen_reflections_are_read_and_not_trained():
    trials = make_trials(2, groups=4, trials_per_group=3)
    frozen = replace(config(), algo=AlgoConfig(train_reflections=False))
    rows = {
        int(a) - 1
        for minibatch in pack(trials, advantages_of(trials), frozen)
        for b in minibatch
        for a in b.advantages.unique()
    }
    assert rows == set(np.flatnonzero(trials.phase == Phase.PLAY).tolist())
    read = sum(len(b.packed.input_ids) for m in pack(trials, advantages_of(trials), frozen) for b in m)
    assert read == len(trials.tokens)  # what they say stays in the sequences
