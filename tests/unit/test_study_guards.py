"""Studies beside what earlier commands have left: runs of other settings, other folders and processes."""

import subprocess
from dataclasses import replace

import pytest

from lamer_fast import cli
from lamer_fast.config.resolve import to_json
from lamer_fast.run.lock import try_lock
from lamer_fast.study.read import load
from lamer_fast.study.reuse import run_of
from lamer_fast.study.runner import Running, run_cells, why_ended
from lamer_fast.study.stored import result_path
from tests.small_study import ONE_ARM, here


@pytest.fixture
def small(tmp_path, monkeypatch):
    return here(tmp_path, monkeypatch).cells()[0]


def trained(folder, config, iterations=None):
    """A run of `config`, finished unless `iterations` says how far it came."""
    (folder / "model").mkdir(parents=True)
    (folder / "config.json").write_text(to_json(config))
    made = config.train.iterations if iterations is None else iterations
    (folder / "metrics.jsonl").write_text("{}\n" * made)
    return folder


@pytest.mark.parametrize("iterations", [None, 3], ids=["finished", "begun"])
def test_a_run_of_other_settings_is_no_run_of_the_cell(small, tmp_path, capsys, iterations):
    """Its result was moved away, as the refusal of an old one asks; the run stayed."""
    other = replace(small.config, algo=replace(small.config.algo, gamma_traj=0.25))
    run = trained(tmp_path / "runs" / small.config.name, other, iterations)
    assert cli.main(["study", "small.toml"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert f"runs/{run.name} holds a run with algo.gamma_traj = 0.25, the study says 0.6" in shown.err


def test_folders_that_are_no_runs_are_not_looked_at(small, tmp_path):
    for name, text in (("a_model", '{"model_type": "llama"}'), ("broken", '{"name"')):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text(text)
    run = trained(tmp_path / "runs" / "own", replace(small.config, name="own"))
    assert run_of(small, tmp_path / "runs") == run


def runs_of(cells, tmp_path, found):
    """What `run_cells` says of cells that it must not start."""
    return run_cells(found, "small.toml", cells, tmp_path / "out", tmp_path / "runs", jobs=2)


def test_a_cell_that_another_command_runs_is_left_to_it(small, tmp_path, caplog):
    """And so is a cell that would train the same policy."""
    (tmp_path / "small.toml").write_text(ONE_ARM + '[parts.more]\nrecipe = "minesweeper-tiny"\ntasks = 8\n')
    found = load("small.toml")
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs" / f"{small.config.name}.log").open("ab") as log, caplog.at_level("INFO"):
        assert try_lock(log.fileno())
        assert runs_of(found.cells(), tmp_path, found) == {}
    assert [record.getMessage().split()[0] for record in caplog.records] == ["mines-ours-0", "more-ours-0"]
    assert "is left to the command that runs it" in caplog.text
    assert not (tmp_path / "runs" / small.config.name).exists()


def test_a_cell_that_another_command_has_finished_since_is_not_run_again(small, tmp_path, caplog):
    path = result_path(tmp_path / "out", small)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert runs_of([small], tmp_path, load("small.toml")) == {} and path.read_text() == "{}"


def test_what_killed_a_cell_is_told_with_its_own_lines_alone(small, tmp_path):
    log = tmp_path / "cell.log"
    log.write_text("of an earlier start\n")
    with log.open("ab") as opened:
        process = subprocess.Popen(["sh", "-c", "echo one; kill -9 $$"], stdout=opened)
    process.wait()
    told = why_ended(Running(small, process, log, tmp_path, log_start=20))
    assert told.startswith("ended by signal SIGKILL, as the system does where memory runs out")
    assert told.endswith(f"one\n(all of it: {log})") and "earlier" not in told
