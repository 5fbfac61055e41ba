"""Figures of a study show the numbers of its tables; without matplotlib there are none."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.eval.intervals import Estimate
from lamer_fast.study.figures import draw, smooth
from lamer_fast.study.measures import KINDS
from lamer_fast.study.read import load
from lamer_fast.study.result import CellResult, Played
from lamer_fast.study.summary import summaries
from lamer_fast.study.tables import PAPER, tables_of

MEASURED = """
question = "What do they do?"
seeds = [0, 1]
measures = ["exploration", "notes"]
[modes.own]
eval.memory = "both"
[modes.empty]
eval = { memory = "both", notes = "empty" }
[parts.mines]
recipe = "minesweeper-tiny"
published.ours = [nan, 66.4, 74.4]
[arms.ours]
[arms.base]
trained = false
"""
BOARDS = 6


def made(cell):
    """Measures that name the cell: 10 x seed + mode, + 0.5 of the base; empty notes are never true."""
    values = {}
    for m, mode in enumerate(cell.modes):
        at = 10.0 * cell.seed + m + 0.5 * (cell.arm.name == "base")
        values[mode.name] = {name: [at, None] * (BOARDS // 2) for kind in KINDS.values() for name in kind}
        if mode.name == "empty":
            values[mode.name]["note_true"] = [None] * BOARDS
    test = Played("test", 3, {"own": "012312", "empty": "000012", "attempts": "000123"}, values)
    curve = {"iteration": [1, 2, 3], "success_at": [[0.1, 0.2, 0.3]] * 3, "entropy": [1.0] * 3}
    notes = {"iteration": [1, 2, 3], "note_words": [4.0, None, 2.0], "note_new": [1.0, None, 0.5]}
    notes |= {"note_true": [None] * 3}
    trained = {"budget": {"episodes": 10.0}, "curve": curve, "notes": notes} if cell.arm.train else {}
    splits = {"valid": replace(test, panel="valid", measures={}), "test": test}
    return CellResult(cell.part, cell.part, cell.arm.name, cell.seed, cell.settings(), splits, **trained)


@pytest.fixture
def found(tmp_path):
    (tmp_path / "measured.toml").write_text(MEASURED)
    study = load(str(tmp_path / "measured.toml"))
    return study, summaries(study, {cell.name: made(cell) for cell in study.cells()})


def test_every_measure_has_a_panel_with_mean_and_interval(found, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    from lamer_fast.study import figures

    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, stem: drawn.setdefault(stem.name, figure) and [])
    study, own = found
    bounded = [replace(own[0], regret=[Estimate(0.4, 0.3, 0.5), Estimate(0.1, 0.0, 0.2)]), own[1]]
    draw(study, bounded, tmp_path)
    kinds = ("training", "success", "exploration", "notes", "notes-training", "regret")
    assert set(drawn) == {f"mines-{name}" for name in kinds}
    assert [bar.get_height() for bar in drawn["mines-regret"].axes[0].patches] == [40.0, 10.0]
    for kind, names in KINDS.items():
        panels = drawn[f"mines-{kind}"].axes
        assert [axes.get_title() for axes in panels] == list(names)
        for axes, name in zip(panels, names, strict=True):
            means = [bar.get_height() for bar in axes.patches]
            expected = [s.measures[mode][name] for mode in ("own", "empty") for s in own]
            assert means == [e.mean for e in expected if e is not None]
            assert len(means) == (2 if name == "note_true" else 4)
            ends = [end for lines in axes.collections for end in lines.get_segments()]
            intervals = [(end[0][1], end[1][1]) for end in ends]
            np.testing.assert_allclose(intervals, [(e.low, e.high) for e in expected if e is not None])
    words, new, true = drawn["mines-notes-training"].axes
    np.testing.assert_allclose(words.lines[0].get_ydata(), [4.0, 4.0, 3.0])
    np.testing.assert_allclose(new.lines[0].get_ydata(), [1.0, 1.0, 0.75])
    assert np.isnan(np.asarray(true.lines[0].get_ydata(), float)).all()


def test_figures_are_files_and_the_same_ones_again(found, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    study, own = found
    paths = draw(study, own, tmp_path / "one")
    assert {path.suffix for path in paths} == {".png", ".svg"} and len(paths) == 10
    again = {path.name: path.read_bytes() for path in draw(study, own, tmp_path / "two")}
    assert all(path.read_bytes() == again[path.name] for path in paths)


def test_without_matplotlib_there_are_none(found, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    study, own = found
    assert draw(study, own, tmp_path / "figures") == [] and not (tmp_path / "figures").exists()


def test_a_point_is_the_mean_of_the_last_values_that_are_there():
    values = np.array([1.0, np.nan, 3.0, 5.0, 7.0, 9.0, np.nan])
    np.testing.assert_allclose(smooth(values), [1.0, 1.0, 2.0, 3.0, 4.0, 6.0, 6.0])
    assert np.isnan(smooth(np.array([np.nan, np.nan]))).all()


def test_what_the_paper_reports_stands_beside_and_says_of_what(found):
    study, own = found
    table = tables_of(study, own)[0]
    by_arm = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert PAPER == "paper (other model and size)"
    assert by_arm["ours"][PAPER] == "? / 66.4 / 74.4" and by_arm["base"][PAPER] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("published.our = [1, 2]", "names no arm: our"),
        ("published.ours = 3", "must be a list of success@1..K"),
    ],
)
def test_published_figures_that_fit_no_arm_are_refused(tmp_path, change, message):
    text = MEASURED.replace("published.ours = [nan, 66.4, 74.4]", change)
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(str(tmp_path / "wrong.toml"))


@pytest.mark.parametrize("part", ["minesweeper", "sokoban"])
def test_main_has_the_papers_figures(part):
    published = load("main").parts[part].published
    assert set(published) == {"base", "react", "reflexion", "ppo", "gigpo", "lamer"}
    assert all(len(values) == 3 and list(values) == sorted(values) for values in published.values())
