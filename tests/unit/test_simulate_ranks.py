"""The tables of docs/scaling.md are those of the simulation, and it counts what a hand would."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("simulate_ranks", ROOT / "benchmarks" / "simulate_ranks.py")
simulate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(simulate)


def test_the_page_has_the_tables_of_the_simulation():
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert {found[2] for found in simulate.MARKERS.finditer(page)} == set(simulate.tables())
    assert simulate.filled(page) == page


def test_idle_is_what_the_faster_ranks_wait():
    assert simulate.idle(np.array([[1.0, 3.0]])) == pytest.approx(1 / 3)
    assert simulate.idle(np.array([[2.0, 2.0], [5.0, 5.0]])) == 0


def test_a_collection_gives_each_rank_whole_groups():
    groups = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    drawn = simulate.collections(groups, ranks=4, per_rank=3)
    assert drawn.shape == (simulate.DRAWS, 4, 6)
    assert (drawn[..., ::2] == drawn[..., 1::2]).all()


def test_one_rank_sends_nothing_and_sharding_sends_less_than_replicas():
    assert set(simulate.bytes_per_parameter(1).values()) == {0}
    of_two = simulate.bytes_per_parameter(2)
    assert (of_two["none"], of_two["optimizer"]) == (4, 3)


def test_lengths_without_spread_gain_by_split_devices_alone():
    gains = simulate.beside(np.full((4, 8), 30.0), ratio=1.0)
    assert gains == pytest.approx({"one": 0, "two, steps": 0.5, "two, tokens": 0})
