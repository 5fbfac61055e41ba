"""Names that installed packages register: found, recorded in full, refused when two packages claim one."""

import sys

import pytest

from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import entry
from lamer_fast.plugins import registered

CODE = """
def softer(logprobs, batch, algo):
    return -batch.advantages * logprobs

def even(trials, algo):
    import numpy as np
    return np.ones(trials.num_turns, np.float32)
"""


def install(folder, package, *lines, group="losses"):
    """As pip would leave it: a module and its metadata."""
    folder.mkdir(exist_ok=True)
    (folder / f"{package}.py").write_text(CODE)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[lamer_fast.{group}]", *lines]) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def test_a_registered_loss_is_used_and_recorded_in_full(site):
    install(site, "their_losses", "softer = their_losses:softer")
    config = recipe.resolve("minesweeper-tiny", ["--algo.loss", "softer"])
    assert config.algo.loss == "their_losses:softer" and "their_losses" not in sys.modules
    assert registered("algo.loss") == ["softer"]
    from lamer_fast.algo.losses import objective

    assert objective(config.algo).own.__name__ == "softer"


def test_a_registered_estimator_and_environment(site):
    install(site, "theirs", "even = theirs:even", group="estimators")
    install(site, "worlds", "treasure = examples.treasure.treasure:make", group="environments")
    assert recipe.resolve("minesweeper-tiny", ["--algo.estimator", "even"]).algo.estimator == "theirs:even"
    assert entry("treasure").options is not None
    config = recipe.load("minesweeper-tiny", ["--env.name", "treasure"])
    assert config.env.name == "examples.treasure.treasure:make"


def test_two_packages_with_one_name_are_refused_and_ours_come_first(site):
    install(site, "one", "softer = one:softer", "clip = one:softer")
    install(site, "two", "softer = two:softer")
    with pytest.raises(ValueError, match=r"registered twice: one:softer of one and two:softer of two"):
        recipe.resolve("minesweeper-tiny", ["--algo.loss", "softer"])
    assert recipe.resolve("minesweeper-tiny", ["--algo.loss", "clip"]).algo.loss == "clip"


def test_an_unknown_name_lists_what_is_registered(site):
    install(site, "their_losses", "softer = their_losses:softer")
    with pytest.raises(ValueError, match=r"algo\.loss = 'softest', must be one of: .*softer"):
        recipe.resolve("minesweeper-tiny", ["--algo.loss", "softest"])
