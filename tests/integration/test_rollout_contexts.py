"""Rollouts of a tiny model in real environments: three contexts, one set of log-probabilities."""

from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import Config
from lamer_fast.envs.toy import NumberHunt
from lamer_fast.rollout.boards import draw_boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.rollout.trial_batch import TURN_COLUMNS
from lamer_fast.samplers.local.sampler import TorchSampler
from tests.tiny import tiny_model, tiny_tokenizer

RENDERER = ChatRenderer(tiny_tokenizer())


@pytest.fixture(scope="module")
def model():
    return tiny_model(vocab_size=len(RENDERER._tokenizer))


def collect(model, prompt="compact", sampler_options=None, **rollout):
    """(TrialBatch, sampler) of 2 groups of 4 trials."""
    sizes = {
        "groups": 2, "trials_per_group": 4, "max_turns": 3, "max_reply_tokens": 8,
        "max_reflection_tokens": 10, "max_sequence_tokens": 4096,
    }  # fmt: skip
    config = Config()
    config = replace(
        config,
        env=replace(config.env, prompt=prompt),
        rollout=replace(config.rollout, **sizes | rollout),
    )
    env = NumberHunt(8)
    sampler = TorchSampler(model, max_sequence_tokens=4096, **(sampler_options or {}))
    agent, boards = Agent(RENDERER, env, config), draw_boards(config, 0)
    trials = collect_trials(sampler, env, agent, boards, config.rollout, seed=5)
    trials.validate()
    return trials, sampler


def sequences(trials):
    return [trials.tokens[a:b] for a, b in zip(trials.cu_seqlens, trials.cu_seqlens[1:], strict=False)]


@pytest.mark.parametrize("context", ["trial", "episode", "turn"])
@pytest.mark.parametrize("prompt", ["compact", "full"])
def test_sampled_logprobs_are_those_of_the_stored_sequences(model, prompt, context):
    trials, sampler = collect(model, prompt, context=context)
    scores = np.concatenate(sampler.score(sequences(trials)))
    mask = trials.loss_mask
    assert mask.sum() > 100
    np.testing.assert_allclose(trials.rollout_logprobs[mask], scores[mask], atol=1e-5, rtol=0)


def test_contexts_agree_where_their_texts_do(model):
    by_context = {context: collect(model, context=context)[0] for context in ("trial", "episode", "turn")}
    for context, num_turns in (("episode", 3), ("turn", 1)):
        for name in ("tokens", "rollout_logprobs"):
            for row in range(num_turns):  # the first turns of trial 0 are asked with the same text
                a, b = (
                    getattr(t, name)[t.token_start[row] : t.token_end[row]]
                    for t in (by_context["trial"], by_context[context])
                )
                np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)


def test_one_episode_is_the_same_in_contexts_trial_and_episode(model):
    a, _ = collect(model, context="trial", episodes=1)
    b, _ = collect(model, context="episode", episodes=1, memory="none")
    for name in ("tokens", "loss_mask", "rollout_logprobs", "cu_seqlens", *TURN_COLUMNS):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize(
    "options", [{"max_in_flight": 3}, {"cache_tokens": 2 * 4096}, {"max_prefill_tokens": 9}]
)
def test_trials_do_not_depend_on_batching(model, options):
    a, _ = collect(model)
    b, _ = collect(model, sampler_options=options)
    assert np.array_equal(a.tokens, b.tokens)
    np.testing.assert_allclose(a.rollout_logprobs, b.rollout_logprobs, atol=1e-5, rtol=0)
    for name in TURN_COLUMNS:
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_the_same_again_is_bit_equal(model):
    a, _ = collect(model)
    b, _ = collect(model)
    for name, value in vars(a).items():
        assert np.array_equal(value, getattr(b, name)), name


def test_context_trial_computes_the_fewest_tokens(model):
    computed = {}
    for context in ("trial", "turn"):
        trials, sampler = collect(model, "full", context=context, max_turns=7)
        computed[context] = (sampler.num_prefill_tokens + sampler.num_decode_tokens) / trials.num_turns
    assert computed["turn"] > 3 * computed["trial"]


def test_trials_leave_nothing_behind(model):
    _, sampler = collect(model)
    assert sampler._slot_of == {} and not sampler._active and not sampler._waiting
    assert sorted(sampler._free) == list(range(sampler._cache.num_slots))
