"""Who runs where in a study, and what is shown of it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from lamer_fast.study.progress import Teller, table
from lamer_fast.study.read import load
from lamer_fast.study.runner import Running, start
from lamer_fast.study.share import VISIBLE, gpus_for, jobs_for, least_used


@pytest.fixture
def cells():
    return load("main").cells()


def on(config, **changes):
    return replace(config, train=replace(config.train, **changes))


def test_each_cell_takes_the_gpus_that_the_fewest_others_have():
    gpus, taken = ["0", "1", "2"], []
    for _ in range(4):
        taken.append(least_used(gpus, taken, 1))
    assert taken == [["0"], ["1"], ["2"], ["0"]]
    assert least_used(gpus, taken, 2) == ["1", "2"] and least_used([], taken, 1) == []


def test_there_is_room_for_a_cell_on_each_gpu_or_its_threads(cells, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    config = on(cells[0].config, num_threads=2, processes=1)
    assert jobs_for(config, []) == 4 and jobs_for(on(config, processes=2), []) == 2
    assert jobs_for(config, ["0", "1", "2"]) == 3 and jobs_for(on(config, processes=2), ["0", "1", "2"]) == 1
    assert gpus_for(on(config, device="cpu")) == []


def test_a_cell_sees_its_gpus_alone(cells, tmp_path):
    one = start("main", cells[0], tmp_path / "studies", tmp_path / "runs", ["5", "3"], quick=True)
    try:
        environment = Path(f"/proc/{one.process.pid}/environ")
        while not (said := environment.read_bytes()) and one.process.poll() is None:
            time.sleep(0.01)  # empty while the program is being loaded
        assert f"{VISIBLE}=5,3".encode() in said.split(b"\0")
    finally:
        one.process.kill()
        one.process.wait()


def test_the_table_has_a_row_for_each_cell_that_runs(cells, tmp_path):
    trained, untrained = (next(c for c in cells if c.arm.train is train) for train in (True, False))
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("{}\n" * 12)
    running = [
        Running(trained, None, tmp_path, run, ["1"], since=0.0),
        Running(untrained, None, tmp_path, tmp_path / "none", ["0"], since=60.0),
    ]
    head, *rows = [line.split() for line in table(running, done=3, total=9, now=90.0)]
    assert " ".join(head) == "3 of 9 cells are done, 4 wait"
    assert rows == [
        ["running", "iteration", "minutes", "GPU"],
        ["minesweeper-lamer-0", "12/60", "1.5", "1"],
        ["minesweeper-base-0", "evaluating", "0.5", "0"],
    ]
    assert len(table([], done=9, total=9, now=0.0)) == 1


def test_a_cell_that_failed_is_told_when_it_does(capsys):
    """Not at the end alone, hours later; and again only with the next line."""
    told = Teller(every_s=3600.0)
    told([], 0, 9, [])
    told([], 1, 9, ["mines-ours-0"])
    told([], 1, 9, ["mines-ours-0"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "failed: mines-ours-0" in lines[1] and "failed" not in lines[0]
    assert table([], 1, 9, 0.0, ["mines-ours-0"])[1].startswith("failed: mines-ours-0")
