"""Language models in the gradient lab: the command, and what a file may say of them."""

import json
import re
from pathlib import Path

import pytest

from lamer_fast.cli import study as study_command
from lamer_fast.study.gradient.command import load
from lamer_fast.study.gradient.measure import CLAIM, SUCCESS, WHOLE
from lamer_fast.study.gradient.model_run import config_of, digest
from lamer_fast.study.gradient.record import missing, path_of, read
from tests.unit.test_gradient_lab import arms_on_the_page


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


def test_a_model_is_measured_in_seconds_and_one_whose_run_is_not_there_is_left_out(tmp_path, capsys):
    line = [
        "gradient",
        "--quick",
        "--only",
        "model",
        "--out",
        str(tmp_path),
        "--runs",
        str(tmp_path / "runs"),
    ]
    assert study_command.run(line) == 0
    said = capsys.readouterr().out
    assert f"model-trained is left out: there is no run main-minesweeper-lamer-0 in {tmp_path}" in said
    assert "model-base (success@1..K" in (tmp_path / "gradient-quick" / "tables.md").read_text()
    (cell,) = (c for c in load("gradient").quick().model_cells() if not c.model.run)
    path = path_of(tmp_path / "gradient-quick", cell)
    json.loads(path.read_text(), parse_constant=refuse)
    record = read(path)
    assert list(record.arms) == [arm.name for arm in cell.arms] and "ppo" not in record.arms
    counts = record.counts
    assert (counts["boards"], counts["trials"]) == (3, 12)
    assert counts["branches"] == cell.model.branches * counts["turns"]
    for arm in record.arms.values():
        for part in ("first", "notes", "later", WHOLE):
            assert arm.parts[part].keys() == arm.turns[part].keys() == {CLAIM, SUCCESS}
    assert study_command.run([*line, "--list"]) == 0
    listed = capsys.readouterr().out
    assert "finished  model-base" in listed
    assert "to do     model-trained, after the run main-minesweeper-lamer-0" in listed


ROOT = Path(__file__).parents[2]
BY_GAMMA = ("lamer_g0", "lamer_g03", "lamer", "lamer_g09", "lamer_g1")
FOLDER = ROOT / "benchmarks" / "studies" / "gradient"


def committed():
    """Records of the cells by their names."""
    return {cell.model.name: read(path_of(FOLDER, cell)) for cell in load("gradient").model_cells()}


def test_the_repository_has_what_the_shipped_models_are_asked_and_of_the_shipped_weights(tmp_path):
    for cell in load("gradient").model_cells():
        assert missing(path_of(FOLDER, cell), cell.settings(), cell) == []
        record = read(path_of(FOLDER, cell))
        if not cell.model.run:
            assert record.facts["weights"] == digest(config_of(cell, tmp_path))


def test_the_page_has_the_figures_of_the_committed_records():
    section, shown = arms_on_the_page("## What is true of the turns of a language model?")
    assert len(shown) > 15
    for name, row in shown.items():
        expected = []
        for record in committed().values():
            goal, turns = record.arms[name].parts[WHOLE][SUCCESS], record.arms[name].turns[WHOLE][SUCCESS]
            expected += [f"{goal.cosine:.2f}", f"{goal.noise:.1f}", f"{goal.one:.2f}", f"{turns.cosine:.2f}"]
        first = committed()["trained"].arms[name].turns["first"][SUCCESS]
        assert row == [*expected, f"{first.cosine:.2f}"], name
    for record in committed().values():
        by_gamma = (record.arms[name].turns["first"][SUCCESS].one for name in BY_GAMMA)
        assert " / ".join(f"{one:.2f}" for one in by_gamma) in section
        assert " / ".join(f"{100 * share:.0f}" for share in record.within) in section
        assert f"{record.cpu_seconds:.0f}" in section and f"{record.counts['turns']:,}" in section


WRONG = [  # what a model says, and what the error says of it
    ("boards = 1", "models.mine.boards = 1, must be a whole number from 2 up"),
    ("branches = 3", "models.mine.branches = 3, must be an even number from 2 up"),
    ('branches = "many"', "models.mine.branches = 'many', must be an even number"),
    ("board = 3", "'models.mine.board'"),
    ("rollout = { trials_per_group = 1 }", "models.mine: trials_per_group = 1, must be 2 or more"),
    ("rollout = { trials_per_group = 2 }", "groups of 2: algo.pass_k = 3"),
]


@pytest.mark.parametrize(("change", "says"), WRONG)
def test_a_wrong_model_is_told_before_anything_runs(tmp_path, change, says):
    given = {"recipe": '"minesweeper-tiny"', "boards": "4", "branches": "2"}
    key, value = change.split(" = ", 1)
    lines = [f"{k} = {v}" for k, v in (given | {key: value}).items()]
    (tmp_path / "mine.toml").write_text("\n".join(['extends = "gradient"', "[models.mine]", *lines]))
    with pytest.raises(ValueError, match=re.escape(says)):
        load(str(tmp_path / "mine.toml"))
