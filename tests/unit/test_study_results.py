"""Results of a study's cells: none is believed blindly, and none is made twice."""

import json

import numpy as np
import pytest

from lamer_fast.eval.success import pass_at, success_within, summarize
from lamer_fast.study.result import CellResult, Played, changed, curve_of, digits_of
from lamer_fast.study.stored import read_results, result_path, take_over
from tests.small_study import SMALL, result, study

CELL = json.dumps(
    {"format": 1, "study": "s", "part": "mines", "arm": "ours", "seed": 0, "settings": {}}
    | {
        "splits": {
            key: {"panel": "p", "episodes": 3, "modes": {"notes": "0123"}} for key in ("valid", "test")
        }
    }
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CELL[: len(CELL) // 2], "no result of a cell"),
        ("", "no result of a cell"),
        ("[]", "no result of a cell"),
        (CELL.replace('"format": 1', '"format": 7'), "it has format 7, this version reads 1"),
        (CELL.replace('"seed": 0', '"seed": NaN'), "NaN is no number"),
        (CELL.replace('"valid"', '"train"'), "'valid'"),
        (CELL.replace('"0123"', '"0124"'), "valid: notes has '4' for a board, must be one of 0123"),
        (CELL.replace('"notes"', '"attempts": "00", "notes"'), "valid: attempts has 2 boards, notes 4"),
        (CELL.replace('{"notes": "0123"}', "{}"), "valid has no mode"),
        (CELL.replace('"0123"', '""'), "valid has no mode, or one without boards"),
        (CELL.replace('"episodes": 3', '"episodes": "3"'), "episodes = '3', must be from 1 to 35"),
        (CELL.replace('"episodes": 3', '"episodes": 36'), "episodes = 36, must be from 1 to 35"),
        (CELL.replace('"notes"', '"history"', 1), "valid has the modes ['history'], test ['notes']"),
        (CELL.replace('"settings": {}', '"settings": {}, "facts": null'), "facts = None, must be an object"),
        (CELL.replace('"settings": {}', '"settings": {}, "budget": {"updates": 1e999}'), "budget has inf"),
        (
            CELL.replace('"settings": {}', '"settings": {}, "curve": {"iteration": [1], "entropy": []}'),
            "curve has lists of unlike lengths",
        ),
        (
            CELL.replace('"modes": {"n', '"measures": {"notes": {"states": ["x"]}}, "modes": {"n'),
            "valid: states of notes has 'x', must be a finite number",
        ),
        (CELL.replace('"settings"', '"other": 1, "settings"'), "unexpected keyword argument 'other'"),
    ],
)
def test_a_damaged_result_is_told_by_its_name_and_in_one_line(tmp_path, text, message):
    path = tmp_path / "cells" / "mines-ours-0.json"
    path.parent.mkdir()
    path.write_text(CELL)
    CellResult.read(path)
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mines-ours-0\.json is no result of a cell") as error:
        CellResult.read(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_not_finite_is_left_out_of_a_result():
    metrics = [{"iteration": 0, "success_at": [0.5], "entropy": float("nan")}]
    assert curve_of(metrics) == {"iteration": [1], "success_at": [[0.5]], "entropy": [None]}


def test_what_is_kept_of_a_board_gives_back_the_evaluation():
    rng = np.random.default_rng(0)
    trials = rng.random((50, 3)) < 0.4
    trials[:, 1:] &= ~np.logical_or.accumulate(trials, axis=1)[:, :-1]  # a trial ends at its first success
    attempts = rng.random((50, 3)) < 0.4
    tasks = [str(i) for i in range(50)]
    found = summarize("test", success_within(trials), pass_at(attempts), attempts_per_task=3, tasks=tasks)
    played = Played("panel", 3, {key or "notes": text for key, text in digits_of(found).items()})
    np.testing.assert_array_equal(played.success("notes"), success_within(trials))
    np.testing.assert_allclose(played.success("attempts"), pass_at(attempts))


def test_a_result_of_other_settings_is_not_believed(tmp_path):
    found = study(tmp_path)
    cell = found.cells()[0]
    kept = result(cell, "1", "1", "1")
    path = result_path(tmp_path, cell)
    kept.write(path)
    assert read_results(tmp_path, found.cells())[cell.name].settings == cell.settings()
    other = study(tmp_path, SMALL.replace("[arms.ours]", "[arms.ours]\nlearn.lr = 5e-4"), "other.toml")
    assert changed(CellResult.read(path), other.cells()[0]).startswith("learn.lr was 0.001")
    with pytest.raises(ValueError, match=r"other settings: learn\.lr was 0\.001, the study says 0\.0005"):
        read_results(tmp_path, other.cells())
    path.write_text("{")
    with pytest.raises(ValueError, match="no result of a cell"):
        read_results(tmp_path, found.cells())


def test_what_another_study_has_found_by_the_same_settings_is_taken_over(tmp_path):
    found = study(tmp_path)
    cell = next(cell for cell in found.cells() if cell.arm.train)
    result(cell, "12", "00", "00").write(result_path(tmp_path / "small", cell))
    renamed = SMALL.replace("arms.ours", "arms.same").replace("seeds = [0, 1]", "seeds = [0, 1, 2]")
    other = study(tmp_path, renamed, "other.toml")
    assert take_over(tmp_path / "other", other.cells()) == ["mines-same-0"]
    taken = read_results(tmp_path / "other", other.cells())
    assert list(taken) == ["mines-same-0"] and taken["mines-same-0"].study == "other"
    evaluated = study(tmp_path, renamed.replace('eval.memory = "history"', "eval.top_k = 3"), "third.toml")
    assert take_over(tmp_path / "third", evaluated.cells()) == []  # other modes: other numbers


def test_cells_of_a_lab_and_damaged_ones_of_other_studies_are_left_alone(tmp_path):
    cell = study(tmp_path).cells()[0]
    for other, text in (("lab", '{"format": 1, "settings": {}}'), ("damaged", CELL[:40])):
        path = tmp_path / other / "cells" / f"{cell.name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert take_over(tmp_path / "small", [cell]) == []
