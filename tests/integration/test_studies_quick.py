"""Every shipped study runs from its first cell to its page, two iterations of few boards.

The cells of a study share a process here, which the command would give each; the command then finds them
finished, and writes what it would have written.
"""

import csv
import importlib.util
import re
from html import escape
from pathlib import Path

import pytest

from lamer_fast import cli
from lamer_fast.study.cell import run_cell
from lamer_fast.study.measures import KINDS
from lamer_fast.study.read import load, names
from lamer_fast.study.stored import result_path

PLOTS = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One folder for all: what `main` has trained is not trained again."""
    return tmp_path_factory.mktemp("quick")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.long if n == "main" else pytest.mark.slow) for n in names()],
)
def test_a_shipped_study_runs_to_its_page(name, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    study, folder = load(name).quick(), runs / "studies" / f"{name}-quick"
    cells = study.cells()
    make_bases(study)
    for cell in cells:
        assert run_cell(study, cell, result_path(folder, cell), runs / "runs")
    assert cli.main(["study", name, "--quick", "--out", "studies", "--runs", "runs"]) == 0
    assert f"{len(cells)} of {len(cells)} cells" in capsys.readouterr().out

    tables, page = tables_in(folder / "tables.csv"), (folder / "report.html").read_text()
    markdown, latex = (folder / "tables.md").read_text(), (folder / "tables.tex").read_text()
    assert len(tables) >= 3 * len(study.parts)
    assert markdown.count("\n| --- ") == latex.count(r"\begin{tabular}") == len(tables)
    for part in study.parts:
        won = tables[f"{part}: test boards won within k episodes, in percent"]
        assert won.keys() == {cell.arm.name for cell in cells if cell.part == part}
        for row in won.values():
            told = [row[f"success@{k}"] for k in (1, 2, 3)]
            within = [float(cell) for cell in told if cell]  # an arm of one long episode has one
            assert within and within[0] >= 0 and within == sorted(within) and within[-1] <= 100
        for kind in study.measures:
            measured = tables[f"{part}: {kind} on the test boards"]
            assert all(set(KINDS[kind]) <= row.keys() for row in measured.values())
    assert all(title in markdown and title in latex and escape(title) in page for title in tables)

    links = re.findall(r'<a href="([^"]+)">trials on test</a>', page)
    assert len(links) == len(cells)
    for link in links:
        assert '"turns":[{' in (folder / link).read_text(), "a page without trials"
    assert page.count(">training</a>") == sum(cell.arm.train for cell in cells)
    if PLOTS:
        drawn = {path.name for path in (folder / "figures").iterdir()}
        stems = {f"{part}-{kind}" for part in study.parts for kind in ("success", *study.measures)}
        assert drawn >= {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg")}
        assert page.count("<svg") == len(drawn) // 2


def make_bases(study):
    """Those that the package has the settings of alone, by two updates."""
    flags = {"updates": 2, "warmup-updates": 1, "decay-updates": 1, "trials": 2, "eval-tasks": 2}
    small = [word for flag, number in flags.items() for word in (f"--{flag}", str(number))]
    for part in study.parts.values():
        path = Path(str(part.settings.get("model.path", "")))
        if path.parts[:1] == ("runs",) and not path.exists():
            assert cli.main(["warmstart", path.name, "--out", str(path), *small]) == 0


def tables_in(path):
    """title -> row -> column -> value"""
    tables = {}
    for line in csv.DictReader(path.read_text().splitlines()):
        tables.setdefault(line["table"], {}).setdefault(line["row"], {})[line["column"]] = line["value"]
    return tables
