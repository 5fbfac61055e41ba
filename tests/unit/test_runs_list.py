"""`lamer-fast runs`: the state of each run is told, and no folder hides another."""

import json
import os

import pytest

from lamer_fast import cli
from lamer_fast.cli.runs import lines
from lamer_fast.config import resolve as recipe
from lamer_fast.run.listing import list_runs
from lamer_fast.run.lock import MARK, FolderLock

RECORD = {
    "success_at": [0.25, 0.5], "return": 3.25, "entropy": 1.5, "advantage_abs": 0.5, "loss": 0.1,
    "clipped": 0.0, "kl": 0.0, "grad_norm": 1.0, "lr": 1e-3,
    "mismatch": {"mean": 0.0, "max": 0.0, "k3": 0.0, "ess": 1.0},
    "tokens": {"prompt": 1, "sampled": 1, "trained": 1}, "seconds": {"sample": 1.0},
    "counters": {
        "turns": 9, "invalid": 1, "truncated": 0, "failed_trials": 0, "groups_dropped": 0, "updates": 2,
        "updates_empty": 0, "updates_skipped": 0,
    },
}  # fmt: skip
NOW = 1_000_000.0


def make(runs, name, iterations=3, written=2, age_s=60.0, mark="", tail=""):
    """The folder of a run as training leaves it after `written` iterations."""
    folder = runs / name
    folder.mkdir(parents=True)
    config = recipe.resolve("minesweeper-tiny", [f"--train.iterations={iterations}"])
    (folder / "config.json").write_text(recipe.to_json(config))
    (folder / MARK).write_text(mark)
    metrics = folder / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(RECORD | {"iteration": i}) + "\n" for i in range(written)) + tail)
    os.utime(metrics, (NOW - age_s, NOW - age_s))
    return folder


def states(runs):
    return {run.name: run for run in list_runs(runs, NOW)}


def test_running_stopped_finished_and_killed(tmp_path):
    lock = FolderLock(make(tmp_path, "now", age_s=1))
    (make(tmp_path, "done", written=3) / "model").mkdir()
    (tmp_path / "done" / "model" / "config.json").write_text("{}")
    make(tmp_path, "rest", tail='{"iteration": 2, "succ')  # half a line, as a crash leaves it
    make(tmp_path, "gone", mark='{"pid": 1}')
    make(tmp_path, "bare", written=0)
    found = states(tmp_path)
    lock.release()
    assert {name: (run.state, run.iteration, run.iterations) for name, run in found.items()} == {
        "now": ("running", 2, 3), "done": ("finished", 3, 3), "rest": ("stopped", 2, 3),
        "gone": ("stopped", 2, 3), "bare": ("stopped", 0, 3),
    }  # fmt: skip
    assert found["gone"].note == "its process was killed" and found["rest"].note == ""
    assert found["done"].success_at == 0.5 and found["bare"].success_at is None
    assert states(tmp_path)["now"].state == "stopped", "once the lock is free"


def test_the_latest_comes_first(tmp_path):
    for name, age_s in (("c", 50), ("a", 90), ("b", 50), ("z", 3)):
        make(tmp_path, name, age_s=age_s)
    assert [run.name for run in list_runs(tmp_path, NOW)] == ["z", "b", "c", "a"]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[" * 100_000, "recursion"),
        ("config.json", "[]", "does not say train.iterations"),
        ("config.json", '{"train.iterations": "many"}', "does not say train.iterations"),
        ("metrics.jsonl", "nonsense\n", "the last record of metrics.jsonl is damaged"),
        ("metrics.jsonl", "[1]\n", "a record is a JSON object"),
        ("metrics.jsonl", '{"iteration": 1}\n', "lacks"),
        ("metrics.jsonl", json.dumps(RECORD | {"iteration": 0, "success_at": []}) + "\n", "no success"),
        ("metrics.jsonl", b"\xff\xfe\n", "damaged"),
    ],
)
def test_a_damaged_run_says_what_and_hides_no_other(tmp_path, file, content, told):
    make(tmp_path, "good")
    path = make(tmp_path, "bad") / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = states(tmp_path)
    assert found["bad"].state == "broken" and told in found["bad"].note
    assert found["good"].state == "stopped"


def test_what_is_no_run_is_left_out(tmp_path):
    make(tmp_path, ".old-r")
    (tmp_path / "file").write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (run,) = list_runs(tmp_path, NOW)
    assert run.name == "link" and run.state == "broken" and "which is not there" in run.note


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    folder = make(tmp_path, "r")
    (folder / "metrics.jsonl").unlink()
    os.mkfifo(folder / "metrics.jsonl")
    assert states(tmp_path)["r"].note == "metrics.jsonl is no file"


def test_hostile_names_stay_on_their_line(tmp_path):
    for name in ("a\x1b[2Jb", "two\nlines", "\u202eabc", "x" * 200, "\x01", os.fsdecode(b"\xff\xfe")):
        make(tmp_path, name)
    shown = lines(list_runs(tmp_path, NOW))
    assert len(shown) == 7 and all(line.isprintable() for line in shown)
    assert all(line.split()[0] for line in shown) and max(map(len, shown)) < 140


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_list_keeps_to_the_width_of_the_terminal(tmp_path, width):
    (make(tmp_path, "r") / "metrics.jsonl").write_text("nonsense\n")
    make(tmp_path, "a-longer-name-of-a-run", age_s=5 * 86_400)
    shown = lines(list_runs(tmp_path, NOW), width)
    assert max(map(len, shown)) <= width
    rows = {line.split()[0]: line for line in shown[1:]}
    assert {name: line.split()[1] for name, line in rows.items()} == {
        "r": "broken",
        "a-longer-name-of-a-run": "stopped",
    }
    whole = [line.split("  ") for line in lines(list_runs(tmp_path, NOW))]
    words = {word.strip() for line in whole for word in line}
    assert all(word.strip() in words for word in rows["a-longer-name-of-a-run"].split("  ")), (
        "a number is never cut"
    )


def test_the_command(tmp_path, capsys):
    make(tmp_path / "runs", "first-one", age_s=86_400 * 5)
    make(tmp_path / "runs", "other")
    folder = ["--runs", str(tmp_path / "runs")]
    assert cli.main(["runs", *folder]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "iteration", "success", "held", "out", "age"]
    assert sorted(row.split()[:6] for row in rows) == [
        ["first-one", "stopped", "2", "of", "3", "@2"], ["other", "stopped", "2", "of", "3", "@2"],
    ]  # fmt: skip
    assert all("50.0 %" in row for row in rows)
    assert cli.main(["runs", "first", "--json", *folder]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["state"], found["iteration"], found["success_at"]) == (
        "first-one",
        "stopped",
        2,
        0.5,
    )
    assert cli.main(["runs", "third", *folder]) == 0 and "no run in" in capsys.readouterr().out
    assert cli.main(["runs", "--runs", str(tmp_path / "no")]) == 2
    assert "no such folder" in capsys.readouterr().err
