"""Every fault of an environment, through a collection: one trial is lost, or one line says what is wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import Config
from lamer_fast.envs import check_env
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.toy import NumberHunt
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.collect import collect_trials
from tests.misbehaving import CASES, FINE, LOST, Misbehaving, at
from tests.scripted import ScriptedSampler
from tests.tiny import tiny_tokenizer

RENDERER = ChatRenderer(tiny_tokenizer())
M = 8


def collect(env, record=None):
    """Every trial guesses two numbers that are out of range, reflects, and then guesses 1 and 2."""
    config = Config()
    rollout = replace(config.rollout, episodes=2, max_turns=2, max_reply_tokens=30, max_reflection_tokens=20)
    config = replace(config, env=replace(config.env, prompt="compact"), rollout=rollout)
    guess = "<action>{}</action>".format
    replies = [guess(8), guess(9), "lower", guess(1), guess(2)]
    sampler = ScriptedSampler(RENDERER, lambda trial, n: replies[n], max_sequence_tokens=4000)
    boards = Boards(np.arange(M, dtype=np.uint64), np.arange(M, dtype=np.int32) // 2)
    agent = Agent(RENDERER, env, config)
    try:
        trials = collect_trials(sampler, env, agent, boards, rollout, seed=0, record=record)
    finally:
        assert not sampler.waiting, "whatever happened, the sampler is left without requests"
    trials.validate()
    return trials


def rows(trials, trial):
    return slice(*trials.cu_trials[trial : trial + 2])


@pytest.mark.parametrize("name", CASES)
def test_through_a_collection(name):
    options, outcome = CASES[name]
    env, record = Misbehaving(M, **options), []
    if outcome in (LOST, FINE):
        trials, sound = collect(env, record), collect(NumberHunt(M, highest=3))
        assert len(trials.errors) == (outcome == LOST), trials.errors
        if outcome == LOST:  # the others play as if nothing had happened
            for t in set(range(M)) - set(trials.errors):
                assert trials.rewards[rows(trials, t)].tolist() == sound.rewards[rows(sound, t)].tolist()
        assert [r["trial"] for r in record if "error" in r] == list(trials.errors)
    else:
        with pytest.raises(EnvError) as error:
            collect(env, record)
        message = str(error.value)
        assert outcome in message and len(message) < 700 and message.isprintable(), message
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("size", [5_000, 1_000_000, 100_000_000])
def test_a_very_long_observation_truncates_its_trial(size):
    """Whatever its length: nothing reads it to the end."""
    text = "wall " * (size // 5)
    trials = collect(Misbehaving(M, "observe", at(2, text), board=2, since=2))
    assert not trials.errors
    mine = rows(trials, 2)
    assert trials.truncated[mine].tolist() == [False, True] and trials.done[mine].tolist() == [False, True]
    assert len(trials.tokens) < 20_000


@pytest.mark.parametrize("name", CASES)
def test_before_a_run(name):
    """What shows on eight boards in a few turns is found by the check that every run makes first."""
    options, outcome = CASES[name]
    found = check_env(Misbehaving(M, **options), replies=["<action>1</action>"], quick=True, num_turns=4)
    if options["method"] == "task_texts":
        return  # an optional member, not part of the quick check
    assert bool(found) == (outcome != FINE), found
    if outcome not in (FINE, LOST, CASES["step raises when all is done"][1]):
        assert any(outcome in sentence for sentence in found), found
