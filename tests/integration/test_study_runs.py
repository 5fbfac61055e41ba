"""`lamer-fast study` runs its cells, goes on where it was stopped, and takes an arm of the user's own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lamer_fast import cli
from lamer_fast.run.whose import CONTENT
from lamer_fast.study.result import CellResult

OWN = """
extends = "main"
[arms.mine]
doc = "no discount between episodes"
seeds = [0]
parts = ["minesweeper"]
algo.gamma_traj = 1.0
"""


@pytest.mark.long
def test_a_grid_runs_and_is_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(OWN)
    line = ["study", "own.toml", "--quick", "--only", "minesweeper-base,minesweeper-mine", "--jobs", "2"]
    assert cli.main(line) == 0
    shown = capsys.readouterr().out
    assert "| mine | 1 |" in shown and "2 of" in shown
    folder = tmp_path / "runs" / "studies" / "own-quick"
    mine = CellResult.read(folder / "cells" / "minesweeper-mine-0.json")
    base = CellResult.read(folder / "cells" / "minesweeper-base-0.json")
    assert mine.budget["updates"] == 2 and len(mine.curve["iteration"]) == 2 and not base.budget
    assert base.evaluation["seconds"] > 0 and mine.evaluation["cpu_seconds"] > 0
    assert mine.splits["test"].panel == base.splits["test"].panel != mine.splits["valid"].panel
    assert set(mine.splits["test"].modes) == {"notes", "history", "attempts"}
    assert all(len(digits) == 8 for digits in mine.splits["test"].modes.values())
    run = tmp_path / "runs" / "own-quick-minesweeper-mine-0"
    assert {path.name for path in run.iterdir()} <= CONTENT  # --overwrite may take all of it away
    page = (folder / "report.html").read_text()
    assert "no discount between episodes" in page and mine.facts["commit"] in page
    written = (folder / "cells" / "minesweeper-mine-0.json").stat().st_mtime_ns
    assert cli.main([*line, "--list"]) == 0
    assert capsys.readouterr().out.split() == [
        "finished",
        "minesweeper-base-0",
        "finished",
        "minesweeper-mine-0",
    ]
    assert cli.main(line) == 0
    assert (folder / "cells" / "minesweeper-mine-0.json").stat().st_mtime_ns == written


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_grid_leaves_no_process_and_goes_on(tmp_path, number):
    (tmp_path / "slow.toml").write_text(
        OWN + "[train]\nsave_every = 1\niterations = 40\n[parts.minesweeper]\nrollout.groups = 2\n"
    )
    command = [sys.executable, "-m", "lamer_fast", "study", "slow.toml", "--only", "minesweeper-mine"]
    study = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    metrics = tmp_path / "runs" / "slow-minesweeper-mine-0" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or not metrics.read_bytes():
        assert time.monotonic() < deadline and study.poll() is None, "no iteration within two minutes"
        time.sleep(0.1)
    study.send_signal(number)
    out, _ = study.communicate(timeout=120)
    assert study.returncode in (130, 143, -signal.SIGKILL), out
    if number == signal.SIGKILL:  # nobody is left to stop its cells: they notice
        while cells_of("slow.toml") and time.monotonic() < deadline:
            time.sleep(0.2)
    lines = metrics.read_text().splitlines()
    assert 1 <= len(lines) < 40
    time.sleep(1)
    assert metrics.read_text().splitlines() == lines, "a process of the study still trains"
    assert not cells_of("slow.toml")


def cells_of(study: str) -> list[str]:
    """Processes that run its cells."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and f"{study}:" in _command(pid)]


def _command(pid: str) -> str:
    try:
        return open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return ""
