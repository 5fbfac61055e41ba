"""A panel is the same list of tasks everywhere, and its digest says so."""

from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.envs.panel import Panel, panel
from lamer_fast.envs.registry import default_options

# What evaluations of these boards print; another digest would be another set of tasks.
DIGESTS = {
    ("minesweeper", "valid"): "54e6a0582475246d",
    ("minesweeper", "test"): "b700a80fd2a1f74d",
    ("sokoban", "valid"): "404527527ad9080f",
    ("sokoban", "test"): "6985e72cc3d4261c",
    ("lamer_fast.envs.toy:make", "test"): "1ed9842993143fc5",
}


@pytest.mark.parametrize(("name", "split"), DIGESTS)
def test_the_digest_of_the_default_boards_never_changes(name, split):
    options = default_options(name)
    options = replace(options, highest=999) if hasattr(options, "highest") else options
    played = panel(options, split, 40)
    assert len(played) == len(set(played.tasks.tolist())) == 40
    assert played.digest == DIGESTS[name, split]


def test_what_a_digest_depends_on():
    options = default_options("minesweeper")
    played = panel(options, "test", 300)  # more than are reset at once
    assert (played.tasks[:40] == panel(options, "test", 40).tasks).all()
    for field, value in (("env", "sokoban"), ("tasks", played.tasks[::-1]), ("tasks", played.tasks[:-1])):
        assert replace(played, **{field: value}).digest != played.digest
    assert replace(played, seeds=played.seeds[::-1]).digest == played.digest
    assert panel(replace(options, rewards="sparse", style="compact"), "test", 300).digest == played.digest
    assert panel(replace(options, num_mines=4), "test", 300).digest != played.digest


def test_without_tasks_the_first_texts_tell_boards_apart(monkeypatch):
    from lamer_fast.envs.toy import NumberHunt

    monkeypatch.delattr(NumberHunt, "tasks")
    monkeypatch.setattr(
        NumberHunt,
        "task_texts",
        lambda env, env_idx: [f"Goal {env.targets[i]}" for i in env_idx],
        raising=False,
    )
    options = replace(default_options("lamer_fast.envs.toy:make"), highest=999)
    first, other = panel(options, "test", 20), panel(options, "valid", 20)
    assert first.digest == panel(options, "test", 20).digest != other.digest
    assert len(np.intersect1d(first.tasks, other.tasks)) < 5


def test_all_tasks_of_a_small_split():
    options = replace(default_options("minesweeper"), height=4, width=4, num_mines=2)
    assert 5 < len(panel(options, "test", None)) < 40
    assert isinstance(panel(options, "test", None, at_most=5), Panel)
    assert len(panel(options, "test", None, at_most=5)) == 5
