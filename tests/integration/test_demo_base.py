"""The base model that ships is what docs/study.md says it is."""

import pytest

from lamer_fast.config import resolve as recipe
from lamer_fast.cost.tokens import check_prompts
from lamer_fast.envs.registry import entry, eval_seeds
from lamer_fast.eval.success import play_boards, success_within
from lamer_fast.model.path import SHIPPED
from lamer_fast.run.state import build_state

pytestmark = pytest.mark.long
FOLDER = SHIPPED["minesweeper-tiny-base"]


def test_model_is_small_and_its_head_is_tied():
    assert (FOLDER / "model.safetensors").stat().st_size <= 4 * 2**20


def test_demo_has_enough_test_tasks():
    config = recipe.resolve("minesweeper-tiny")
    count = entry(config.env.name).num_tasks(config.env, "test")
    assert count is not None and count >= 300


def test_longest_trial_fits():
    config = recipe.resolve("minesweeper-tiny")
    state = build_state(config)
    assert check_prompts(config, state.agent, state.env) == []


@pytest.mark.long
def test_base_model_plays_badly():
    """On 200 boards of `valid` at the temperature of training; the ranges are three standard errors about the
    figures of docs/study.md."""
    config = recipe.resolve("minesweeper-tiny", ["--train.num-threads", "1"])
    state = build_state(config)
    seeds = eval_seeds(config.env, "valid", 200)
    won = play_boards(state.sampler, state.agent.renderer, config, seeds, split="valid", seed=0).won
    first, _, third = success_within(won).mean(axis=0)
    assert 0.05 <= first <= 0.18
    assert 0.31 <= third <= 0.51
