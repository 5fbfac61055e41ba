"""What a study writes, and what it asks before it starts: folders, boards, links that outlive a move."""

import os
import time
from dataclasses import replace

import pytest

from lamer_fast import cli
from lamer_fast.files import CannotWrite
from lamer_fast.study.cpu_time import counted
from lamer_fast.study.origin import commit_of
from lamer_fast.study.page import cells as rows_of_page
from lamer_fast.study.result import CellResult, Played
from lamer_fast.study.runner import start, why_ended
from lamer_fast.study.stored import read_results, result_path
from lamer_fast.study.summary import summaries
from tests.small_study import ONE_ARM, here

TWO_SEEDS = ONE_ARM.replace("[0]", "[0, 1]")


@pytest.fixture
def small(tmp_path, monkeypatch):
    return here(tmp_path, monkeypatch, TWO_SEEDS)


def result(cell, **more):
    played = Played("of an older version", 3, {"trials": "0123", "attempts": "0011"})
    splits = {"valid": played, "test": played}
    return CellResult("small", cell.part, cell.arm.name, cell.seed, cell.settings(), splits, **more)


def test_links_are_found_below_runs_after_a_move_and_are_addresses(small, tmp_path):
    cell = small.cells()[0]
    kept = result(cell, run="elsewhere/small-mines-ours-0", shown="elsewhere/small-mines-ours-0.test")
    found, runs = summaries(small, {cell.name: kept}), tmp_path / "50% #1"
    assert "not on this machine" in rows_of_page(found, tmp_path / "out", runs).rows[0]
    (runs / "small-mines-ours-0.test").mkdir(parents=True)
    (runs / "small-mines-ours-0.test" / "report.html").touch()
    (link,) = (text for text in rows_of_page(found, tmp_path / "out", runs).rows[0] if "href" in text)
    assert link == '<a href="../50%25%20%231/small-mines-ours-0.test/report.html">trials on test</a>'


def test_other_boards_than_those_of_the_finished_cells_are_told_before_anything_runs(small, tmp_path, capsys):
    first = small.cells()[0]
    result(first).write(result_path(tmp_path / "runs" / "studies" / "small", first))
    assert cli.main(["study", "small.toml"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert "cell mines-ours-0 played panel of an older version of valid, now it is " in shown.err
    assert not list((tmp_path / "runs").glob("small-*"))


@pytest.mark.parametrize("flag", ["--out", "--runs"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(small, monkeypatch, capsys, flag):
    allowed = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **more: "read" not in str(path) and allowed(path, mode, **more)
    )
    os.mkdir("read_only")
    assert cli.main(["study", "small.toml", flag, "read_only/x"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and f"{flag} read_only/x: nothing can be written in" in shown.err
    assert cli.main(["study", "small.toml", "--list", flag, "read_only/x"]) == 0


def test_a_figure_that_cannot_be_written_is_named(tmp_path):
    pytest.importorskip("matplotlib")
    from lamer_fast.study.figures import pyplot_of, save

    (tmp_path / "mines-success.png").mkdir()
    with pytest.raises(CannotWrite, match=r"mines-success\.png"):
        save(pyplot_of("small").figure(), tmp_path / "mines-success")


def test_cpu_seconds_outlive_a_process_that_is_killed(tmp_path):
    path = tmp_path / "run" / "cpu_seconds"
    with counted(path, every_s=0.02):
        path.parent.mkdir()  # as the run does
        deadline = time.monotonic() + 20
        while not path.exists() or float(path.read_text()) < 0.1:
            assert time.monotonic() < deadline, "not written while the block runs"
    path.write_text("100.0\n")
    with counted(path):
        pass
    assert 100.0 <= float(path.read_text()) < 101.0


def test_a_cell_does_not_run_by_settings_that_were_changed_since_the_study_began(small, tmp_path):
    first, second = small.cells()
    changed = ONE_ARM + "learn.lr = 5e-4\n"
    (tmp_path / "small.toml").write_text(changed)
    for cell, what in ((first, "has other settings"), (second, "is no more")):
        one = start("small.toml", cell, tmp_path / "out", tmp_path / "runs", [], quick=False)
        assert one.process.wait(timeout=120) == 2
        told = f"study small.toml was changed since the command began: cell {cell.name} {what}"
        assert told in why_ended(one) and not one.run.exists()


def test_a_result_belongs_to_the_arm_that_its_file_names(small, tmp_path):
    """An arm may be renamed, with its files: its settings are the same."""
    cell = small.cells()[0]
    replace(result(cell), arm="before").write(result_path(tmp_path, cell))
    (found,) = summaries(small, read_results(tmp_path, small.cells()))
    assert found.arm.name == "ours" and [r.arm for r in found.results] == ["ours"]


def test_a_commit_with_changes_says_so(small):
    cell = small.cells()[0]
    facts = {"commit": "0123456789ab", "dirty": "True"}
    assert commit_of(result(cell, facts=facts), 7) == "0123456+changes"
    assert commit_of(result(cell, facts=facts | {"dirty": "False"})) == "0123456789ab"
    assert commit_of(result(cell)) == ""
