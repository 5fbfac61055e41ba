"""Reflections of training that the first policy writes, which stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lamer_fast.config import resolve as recipe
from lamer_fast.rollout.trial_batch import Phase
from lamer_fast.run.clock import Clock
from lamer_fast.run.collection import collect
from lamer_fast.run.state import build_state

WRITES = {
    "rollout.reflector": "first", "algo.train_reflections": False, "rollout.groups": 2,
    "rollout.trials_per_group": 2, "learn.minibatches": 1, "train.num_threads": 1, "train.device": "cpu",
}  # fmt: skip


def test_the_first_policy_writes_and_the_one_that_is_trained_plays():
    """Each token has the probability that its own author gives it, once the two differ."""
    state = build_state(recipe.apply(recipe.load("minesweeper-tiny"), WRITES))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in state.policy.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    state.sampler.load_weights(state.policy.weights_for(state.sampler), version=1)
    trials, _ = collect(state, 0, [], Clock(60.0))
    differ = 0.0
    for i in range(len(trials.cu_seqlens) - 1):
        start, end = trials.cu_seqlens[i : i + 2]
        tokens = [trials.tokens[start:end]]
        own, first = state.sampler.score(tokens)[0], state.sampler.reflector.score(tokens)[0]
        for turn in np.flatnonzero(trials.sequence == i):
            said = slice(trials.token_start[turn], trials.token_end[turn])
            at = slice(said.start - start, said.stop - start)
            author = first if trials.phase[turn] == Phase.REFLECT else own
            np.testing.assert_allclose(trials.rollout_logprobs[said], author[at], atol=1e-4)
            differ = max(differ, float(np.abs(own[at] - first[at]).max()))
    assert differ > 0.05, "the policies are alike"
    assert set(trials.policy_version[trials.phase == Phase.REFLECT]) == {0}
    assert set(trials.policy_version[trials.phase == Phase.PLAY]) == {1}


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("algo.train_reflections", True, "the policy has not written them"),
        ("rollout.sampler", "vllm", "only the embedded sampler"),
        ("learn.shard", "full", "whole on every rank"),
    ],
)
def test_what_contradicts_it_is_told(key, value, why):
    config = recipe.apply(recipe.load("minesweeper-tiny"), WRITES)
    config.validate()
    with pytest.raises(ValueError, match=rf"rollout\.reflector = 'first' contradicts {key}.*{why}"):
        recipe.apply(config, {key: value}).validate()


def test_its_weights_and_cache_are_in_the_plan():
    from lamer_fast.cost.estimate import estimate

    config = recipe.apply(recipe.load("minesweeper-tiny"), WRITES)
    own = replace(config, rollout=replace(config.rollout, reflector="own"))
    more = estimate(config).memory.total() - estimate(own).memory.total()
    assert more > estimate(own).num_parameters * 4
