"""The base model that ships is what docs/study.md says it is."""

import pytest

from lamer_fast.config import resolve as recipe
from lamer_fast.cost.tokens import check_prompts
from lamer_fast.envs.registry import entry, eval_seeds
from lamer_fast.eval.success import play_boards, success_within
from lamer_fast.model.path import SHIPPED
from lamer_fast.run.state import build_state

pytestmark = pytest.mark.long
# on `valid` at the temperature of training: success@1 and @3 of 400 boards, or all there are (docs/study.md)
FIGURES = {
    "minesweeper-tiny": (0.115, 0.41),
    "sokoban-tiny": (0.46, 0.60),
    "hidden-neighbours-tiny": (0.068, 0.409),
}


@pytest.mark.parametrize("name", FIGURES)
def test_model_is_small_and_its_head_is_tied(name):
    assert (SHIPPED[f"{name}-base"] / "model.safetensors").stat().st_size <= 4 * 2**20


def test_demo_has_enough_test_tasks():
    config = recipe.resolve("minesweeper-tiny")
    count = entry(config.env.name).num_tasks(config.env, "test")
    assert count is not None and count >= 300


@pytest.mark.parametrize("name", FIGURES)
def test_longest_trial_fits(name):
    config = recipe.resolve(name)
    state = build_state(config)
    assert check_prompts(config, state.agent, state.env) == []


@pytest.mark.parametrize("name", FIGURES)
def test_base_model_plays_badly(name):
    """On 200 boards or all there are, within three standard errors of the figures above."""
    config = recipe.resolve(name, ["--train.num-threads", "1"])
    state = build_state(config)
    seeds = eval_seeds(config.env, "valid", 200)
    won = play_boards(state.sampler, state.agent.renderer, config, seeds, split="valid", seed=0).won
    first, _, third = success_within(won).mean(axis=0)
    for found, expected in zip((first, third), FIGURES[name], strict=True):
        assert abs(found - expected) <= 3 * (expected * (1 - expected) / len(won)) ** 0.5
