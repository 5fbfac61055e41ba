"""Rewards as options: each figure of a game alone, in the place of that of the reward set."""

from dataclasses import fields, replace

import numpy as np
import pytest

from lamer_fast.config import resolve as recipe
from lamer_fast.envs import make
from lamer_fast.envs.registry import NATIVE, default_options, entry, make_env

FIGURES = [(name, figure) for name in NATIVE for figure in entry(name).reward_sets["lamer"]]


def state(batch):
    """Bytes that hold a digest of the configuration, rewards among it."""
    batch.reset(np.arange(1, dtype=np.uint64))
    return batch.snapshot()


@pytest.mark.parametrize("name", NATIVE)
def test_the_sets_are_those_of_the_native_game(name):
    sets = entry(name).reward_sets
    assert {
        f.name.removeprefix("reward_") for f in fields(entry(name).options) if f.name.startswith("reward_")
    } == set(sets["lamer"])
    words = [state(make(name, 1, rewards=word)) for word in sets]
    assert words == [state(make(name, 1, rewards=dict(figures))) for figures in sets.values()]
    assert len(set(words)) == len(sets)


@pytest.mark.parametrize(("name", "figure"), FIGURES)
@pytest.mark.parametrize("named", ["lamer", "sparse"])
def test_a_figure_takes_the_place_of_the_sets(name, figure, named):
    options = replace(default_options(name), rewards=named, **{f"reward_{figure}": 3.5})
    more = {"track_dead": True} if figure == "dead" else {}
    options = replace(options, **more)
    options.validate()
    expected = make(name, 1, rewards=dict(entry(name).reward_sets[named]) | {figure: 3.5}, **more)
    assert state(make_env(options, 1, split=None).batch) == state(expected)


@pytest.mark.parametrize("name", NATIVE)
def test_the_released_recipes_say_every_figure(name):
    env = recipe.resolve(f"{name}-qwen3-4b-released").env
    official = entry(name).reward_sets["lamer"]
    assert {figure: getattr(env, f"reward_{figure}") for figure in official} == official
    assert all(
        getattr(recipe.resolve(f"{name}-qwen3-4b").env, f"reward_{figure}") is None for figure in official
    )


def test_what_is_out_of_range_or_has_no_effect_is_refused():
    with pytest.raises(ValueError, match=r"env.reward_mine = -10000000.0, must be in \[-1000000, 1000000\]"):
        recipe.resolve("minesweeper-tiny", ["--env.reward-mine", "-1e7"])
    with pytest.raises(ValueError, match=r"env\.reward_dead = -1\.0 contradicts env\.track_dead = False"):
        recipe.resolve("sokoban-tiny", ["--env.reward-dead=-1"])
    with pytest.raises(ValueError, match=r"unknown key 'env\.reward_step'"):
        recipe.resolve("minesweeper-tiny", ["--env.reward-step=1"])
