"""success@k against hand counts and against the definition of pass@k as an average over subsets."""

from itertools import combinations

import numpy as np
import pytest

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import resolve as recipe
from lamer_fast.eval.success import compare, evaluate, pass_at, success_within
from lamer_fast.samplers.protocol import Sampling
from tests.scripted import ScriptedSampler
from tests.tiny import tiny_tokenizer


class Recorder(ScriptedSampler):
    """Plays one collection after another, and keeps every request."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.all = []

    def submit(self, request):
        self.released.discard(request.trial)
        self.all.append(request)
        super().submit(request)


def test_pass_at_is_the_average_over_all_subsets():
    rng = np.random.default_rng(0)
    successes = rng.random((50, 4)) < 0.4
    for k in range(1, 5):
        subsets = [successes[:, list(s)].any(axis=1) for s in combinations(range(4), k)]
        np.testing.assert_allclose(pass_at(successes)[:, k - 1], np.mean(subsets, axis=0), atol=1e-12)


def test_success_within_counts_from_the_first_win_on():
    won = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(success_within(won), [[0, 1, 1], [1, 1, 1], [0, 0, 0]])


def test_a_trial_that_only_repeats_itself_gains_nothing():
    rng = np.random.default_rng(1)
    skill = rng.random((4000, 1))
    trials, attempts = rng.random((4000, 3)) < skill, rng.random((4000, 3)) < skill
    gain = compare("test", trials, attempts).gain_over_independent
    assert gain.low < 0 < gain.high


def test_an_evaluation_is_drawn_and_remembered_as_eval_says():
    """An ordinary-RL policy over three episodes: its trials reflect, its attempts do not."""
    config = recipe.apply(
        recipe.load("minesweeper-tiny-gigpo"),
        {
            "eval.temperature": 0.7,
            "eval.top_p": 0.8,
            "eval.top_k": 20,
            "eval.min_tokens": 5,
            "rollout.temperature": 1.3,
        },
    )
    renderer = ChatRenderer(tiny_tokenizer())
    sampler = Recorder(renderer, lambda trial, n: "I give up")
    evaluation = evaluate(sampler, renderer, config, split="valid", tasks=4)
    assert evaluation.episodes == 3 and len(evaluation.trial) == 3
    assert {request.sampling for request in sampler.all} == {Sampling(0.7, 0.8, 20, 5)}
    reflections = [r for r in sampler.all if r.max_tokens == config.rollout.max_reflection_tokens]
    assert len(reflections) == 4 * 2, "two failed episodes of each trial, none of an attempt"


def test_unpaired_boards_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\) and attempts \(2, 2\)"):
        compare("test", np.zeros((3, 2), bool), np.zeros((2, 2), bool))
