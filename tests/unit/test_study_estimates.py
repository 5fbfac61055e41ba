"""What the results of a study are worth: intervals, the way to evaluate, the last attempt."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.study.estimates import over_seeds_and_tasks, paired
from lamer_fast.study.result import Played
from lamer_fast.study.summary import after_failures, best_mode, share, summaries
from lamer_fast.study.tables import Table, tables_of, write_tables
from tests.small_study import SMALL, result, study


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Seeds and tasks both vary: an interval over tasks alone holds it in about half of the draws."""
    rng = np.random.default_rng(1)
    hits, naive = [], []
    for _ in range(300):
        by_seed, by_task = rng.normal(0, 0.08, (5, 1)), rng.normal(0, 0.2, (1, 200))
        values = 0.5 + by_seed + by_task + rng.normal(0, 0.3, (5, 200))
        found = over_seeds_and_tasks(values, draws=300)
        hits.append(found.low <= 0.5 <= found.high)
        alone = over_seeds_and_tasks(values.mean(axis=0, keepdims=True), draws=300)
        naive.append(alone.low <= 0.5 <= alone.high)
    assert 0.87 <= np.mean(hits) <= 0.99
    assert np.mean(naive) < 0.75


def test_equal_values_have_no_width_and_pairs_cancel():
    same = np.full((3, 10), 0.5)
    assert over_seeds_and_tasks(same).low == over_seeds_and_tasks(same).high == 0.5
    values = np.random.default_rng(2).random((3, 40))
    assert paired(values, values).high == 0.0
    shifted = paired(values + 0.1, values)
    np.testing.assert_allclose((shifted.low, shifted.mean, shifted.high), 0.1, atol=1e-12)
    assert paired(values, values[:2]).low < paired(values, values[:2]).high


def test_the_way_to_evaluate_is_chosen_on_valid_alone(tmp_path):
    found = study(tmp_path)
    on_valid = {"notes": "1110", "history": "0000", "attempts": "0000"}

    def made(cell):
        if cell.arm.train:
            return result(cell, "0000", "1111", "1111", on_valid)
        return result(cell, "1100", "0000", "0000")

    results = {cell.name: made(cell) for cell in found.cells()}
    assert {r.splits["valid"].panel for r in results.values()} == {"panel of valid", "panel of test"}
    with pytest.raises(ValueError, match="played panel"):
        summaries(found, results)
    results = {
        name: replace(r, splits={**r.splits, "valid": replace(r.splits["valid"], panel="valid")})
        for name, r in results.items()
    }
    ours, base = summaries(found, results)
    assert ours.mode == "notes" and ours.within[-1].mean == 0.0  # though `history` wins all of test
    assert best_mode(base.results, base.arm) == "notes" and base.within[0].mean == 0.5
    assert base.lead is not None and base.lead.mean == -0.5
    text = "\n".join(table.markdown() + table.latex() for table in tables_of(found, [ours, base]))
    assert "50.0" in text and r"success@1" in text


def test_all_tables_are_one_csv_of_numbers(tmp_path):
    """Its numbers are those that the tables show, without the signs and commas that stop a reader."""
    shown = [
        "54.1 [50.9, 57.4]",
        "-1.1 [-4.7, +3.0]",
        "23,040",
        "",
        "notes",
        "12 %",
        "0.982 ± 0.004",
        "44.1 / 66.4",
    ]
    first = Table("mines, in percent", ["arm", *map(str, range(8))], [["a, b", *shown]])
    second = Table("measures", ["arm", "mode", "states"], [["ours", "notes", "8.18 [7.84, 8.50]"]], keys=2)
    write_tables([first, second], tmp_path)
    lines = list(csv.DictReader((tmp_path / "tables.csv").read_text().splitlines()))
    assert {tuple(line) for line in lines} == {("table", "row", "column", "value", "low", "high", "text")}
    assert [line["text"] for line in lines[:8]] == shown
    numbers = [[line[name] for name in ("value", "low", "high")] for line in lines]
    assert numbers[:3] == [["54.1", "50.9", "57.4"], ["-1.1", "-4.7", "3.0"], ["23040", "", ""]]
    assert [number[0] for number in numbers[3:8]] == ["", "", "12", "0.982", ""]
    assert lines[0]["row"] == "a, b" and lines[0]["table"] == "mines, in percent"
    assert lines[8]["row"] == "ours notes" and numbers[8] == ["8.18", "7.84", "8.50"]


def test_boards_without_a_value_do_not_count():
    values = np.random.default_rng(3).random((3, 200))
    there = over_seeds_and_tasks(values)
    more = np.concatenate([values, np.full((3, 50), np.nan)], axis=1)
    found = over_seeds_and_tasks(more)
    assert found.mean == there.mean
    np.testing.assert_allclose((found.low, found.high), (there.low, there.high), atol=0.01)


def test_an_arm_is_evaluated_by_the_modes_that_it_names(tmp_path):
    found = study(tmp_path, SMALL + '[arms.shot]\ntrained = false\nmodes = ["attempts"]\n')
    shot = next(cell for cell in found.cells() if cell.arm.name == "shot")
    assert shot.modes == () and not any(key.startswith("study.modes") for key in shot.settings())
    test = Played("panel", 3, {"notes": "1111", "history": "1111", "attempts": "0001"})
    assert (
        best_mode([replace(result(shot, "", "", ""), splits={"valid": test, "test": test})], shot.arm)
        == "attempts"
    )
    with pytest.raises(ValueError, match=r"arms.shot.modes has 'note'; there are: notes, history, attempts"):
        study(tmp_path, SMALL + '[arms.shot]\nmodes = ["note"]\n')


def test_the_last_episode_counts_where_none_before_had_won():
    """Two seeds, five boards: of the boards that were lost before, two of three each."""
    within = [Played("panel", 3, {"own": digits}).success("own") for digits in ("10323", "12303")]
    assert after_failures(np.stack(within)).mean == pytest.approx((2 / 3 * 3 + 2 / 3 * 3) / 6)
    assert after_failures(np.stack(within)[:, :3]).mean == pytest.approx(2 / 3)  # 0, 3 | 3
    assert share(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).low == 0  # few seeds, spread below nothing
    assert after_failures(np.stack(within)[..., :1]) is None  # one episode has none before it
    assert after_failures(np.stack([within[0][:1], within[1][:1]])) is None  # all had won


def test_of_independent_attempts_the_last_counts_by_how_often_the_others_fail():
    """Three attempts that win 0, 1, 2 and 3 times: two of them fail in 3, 1, 0 and 0 of the 3 pairs, and then
    the third one wins for the board that wins once."""
    attempts = Played("panel", 3, {"attempts": "0123"}).success("attempts")
    found = after_failures(attempts[None])
    assert found is not None and found.mean == pytest.approx((1 / 3) / (3 / 3 + 1 / 3))
