"""Studies beside what earlier commands have left: runs of other settings, other folders and processes."""

from dataclasses import replace

import pytest

from lamer_fast import cli
from lamer_fast.config.resolve import to_json
from lamer_fast.study.read import load
from lamer_fast.study.reuse import run_of

SMALL = """
question = "Which?"
seeds = [0]
[parts.mines]
recipe = "minesweeper-tiny"
[arms.ours]
doc = "trials"
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    return load("small.toml").cells()[0]


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
