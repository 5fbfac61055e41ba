"""The report page: data in, nothing executed, and what a browser shows of it."""

import gzip
import json
import shutil
import subprocess

import pytest

from lamer_fast.config import Config
from lamer_fast.eval.report import read_run, run, write_report
from lamer_fast.recipe import to_flat

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><script>document.body.dataset.evil='1'</script><img src=x onerror=alert(1)>\x1b[31m"


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "runs" / "toy"
    (folder / "trials").mkdir(parents=True)
    (folder / "eval").mkdir()
    config = to_flat(Config(name="toy"))
    (folder / "config.json").write_text(json.dumps(config))
    record = {
        "success_at": [0.2, 0.4], "return": 1.0, "entropy": 0.5, "mismatch": {"mean": 1e-7},
        "seconds": {
            "sample": 1.0, "env": 0.1, "learn": 1.0, "sync": 0.0, "least_sample": 0.1, "least_learn": 0.3,
        },
    }  # fmt: skip
    lines = [json.dumps({"iteration": i} | record) for i in range(3)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    turn = {"episode": 0, "turn": 0, "reward": 0.5, "valid": True, "done": True, "success": False}
    trial = {
        "group": 0, "trial": 1, "task": 5, "seed": 6, "success_by_episode": [False, True],
        "turns": [
            turn | {"phase": "play", "board": EVIL, "reply": EVIL},
            turn | {"phase": "reflect", "episode": 1, "board": "", "reply": "mine at (2, 3)"},
            turn | {"phase": "play", "episode": 1, "board": "? 1", "reply": "x", "success": True},
        ],
    }  # fmt: skip
    with gzip.open(folder / "trials" / "000002.jsonl.gz", "wt") as f:
        f.write(json.dumps(trial) + "\n")
    point = {"mean": 0.5, "low": 0.4, "high": 0.6}
    evaluation = {
        "split": "test", "num_tasks": 10, "episodes": 2, "trial": [point] * 2, "independent": [point] * 2,
        "gain_over_independent": point,
    }  # fmt: skip
    for label, iteration in (("after", 3), ("before", 0)):
        content = {"label": label, "iteration": iteration, "evaluation": evaluation}
        (folder / "eval" / f"{label}.json").write_text(json.dumps(content))
    return folder


def test_page_is_self_contained_and_escaped(run_folder):
    page = write_report(run_folder).read_text()
    assert page.count("</script>") == 2, "the two of the template: data cannot close a script"
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    assert "\x1b" not in page


def test_evaluations_come_in_order_of_training(run_folder):
    assert [e["label"] for e in read_run(run_folder)["evaluations"]] == ["before", "after"]


def test_a_corrupted_metrics_file_is_named(run_folder, capsys):
    with open(run_folder / "metrics.jsonl", "a") as f:
        f.write('{"iteration": 3, "succ')
    assert run([str(run_folder)]) == 2
    assert "metrics.jsonl, line 4 is not JSON" in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert run([str(tmp_path)]) == 2
    assert "has no config.json" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_a_browser(run_folder, tmp_path):
    page = write_report(run_folder)
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-quic",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert 'data-ready="true"' in dom and "data-evil" not in dom
    assert dom.count("<polyline") == 2 + 1 + 1 + 1 + 2 + 4 + 4, "every curve is drawn"
    assert "mine at (2, 3)" in dom and "Episode 2" in dom and "before: trials with reflections" in dom
    assert "iteration 2, trial 1" in dom and "undefined" not in dom.split("</script>")[-1]
