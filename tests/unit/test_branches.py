"""Trials that go on from their middle: the board and the text are as they were, the draws are others."""

from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import make_env
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.branches import Branches, MarkedTrials
from lamer_fast.samplers.protocol import Completion
from lamer_fast.samplers.scripted import ScriptedSampler
from lamer_fast.study.gradient.branched import Players, branch, play
from tests.scripted import PlannedEnv
from tests.tiny import tiny_tokenizer

RENDERER = ChatRenderer(tiny_tokenizer())
COLUMNS = ("episode", "turn", "phase", "rewards", "anchors", "success", "done", "valid", "truncated")


class ByWhatIsRead(ScriptedSampler):
    """Answers by a hash of all that it reads, and of the request's seed where it `draws`: a text that
    differs in a letter gets another answer."""

    def __init__(self, draws=False):
        super().__init__(100_000)
        self.draws = draws

    def poll(self):
        return [self.answer(request) for request in self.waiting()]

    def answer(self, request):
        key = crc32(request.token_ids.tobytes(), request.seed % 2**31 if self.draws else 0) % 1009
        text = f"cell {key}" if request.reflects else f"<action>({1 + key % 5}, {1 + key // 5 % 3})</action>"
        ids = np.array([*RENDERER._tokenizer(text)["input_ids"], *RENDERER.end_ids], np.int32)
        return Completion(request.id, ids, np.zeros(len(ids), np.float32), True, 0)


def players(draws=False, **rollout):
    config = recipe.load("minesweeper-tiny")
    config = replace(config, rollout=replace(config.rollout, **{"episodes": 3, "max_turns": 5} | rollout))
    env = make_env(config.env, 64, split=None)
    return Players(ByWhatIsRead(draws), env, Agent(RENDERER, env, config), config.rollout)


def boards(count=6):
    return Boards(np.arange(count, dtype=np.uint64) + 3, np.arange(count, dtype=np.int32))


WAYS = [{"context": "trial"}, {"context": "trial", "reflect": False}]
WAYS += [{"context": "episode", "memory": "both"}, {"context": "turn", "memory": "history"}]


@pytest.mark.parametrize("rollout", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_a_branch_with_the_same_answers_is_the_rest_of_its_trial(rollout):
    found = players(**rollout)
    trials, places = play(found, boards(), seed=1)
    assert trials.phase.any() == found.rollout.reflect and trials.episode.max() == 2
    assert len(np.unique(trials.anchors)) > trials.num_trials, "cells are opened"
    for trial, own in enumerate(places):
        first, end = trials.cu_trials[trial : trial + 2]
        assert len(own) == end - first, "a place before each turn"
        scheduler = Branches(*found[:3], own, found.rollout, seed=99, numbers=np.arange(len(own)))
        while scheduler.advance():
            pass
        again = scheduler.result()
        for number in range(len(own)):
            start, stop = again.cu_trials[number : number + 2]
            for name in COLUMNS:
                rest, went = getattr(trials, name)[first + number : end], getattr(again, name)[start:stop]
                assert rest.tolist() == went.tolist(), (name, trial, number)


def test_branches_of_one_place_draw_for_themselves_and_by_their_number_alone():
    """A copied generator makes every rollout from a state the same one: eleurent/rl-agents#43."""
    found = players(draws=True)
    _, places = play(found, boards(1), seed=1)
    numbers = np.arange(len(places[0])) + 70
    ways = branch(found, places[0], 8, 2, numbers)
    starts = ways.cu_trials[:-1].reshape(-1, 8)
    assert (ways.columns["anchor"][starts] == ways.columns["anchor"][starts[:, :1]]).all(), "one state"
    assert len({tuple(ways.columns["anchor"][s + 1 : s + 3]) for s in starts[0]}) > 2, "and many ways on"

    config = replace(recipe.load("minesweeper-tiny"), rollout=found.rollout)
    env = make_env(config.env, 5, split=None)
    few = Players(ByWhatIsRead(draws=True), env, Agent(RENDERER, env, config), found.rollout)
    part = ways.of(3 * 8, 4 * 8)
    again = branch(few, places[0][3:7], 8, 2, numbers[3:7])
    for name, column in part.columns.items():
        assert column.tolist() == again.columns[name].tolist(), f"{name}: others beside them change nothing"
    other = branch(found, places[0], 8, 3, numbers)
    assert other.columns["anchor"].tolist() != ways.columns["anchor"].tolist()


def test_an_environment_without_snapshots_is_told():
    config = recipe.load("minesweeper-tiny")
    env = PlannedEnv([["2L", "2W", "2W"]])
    with pytest.raises(ValueError, match=r"PlannedEnv has no snapshot\(\) and restore\(\)"):
        MarkedTrials(ByWhatIsRead(), env, Agent(RENDERER, env, config), boards(1), config.rollout, seed=0)
