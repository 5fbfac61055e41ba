"""The report page: data in, nothing executed, and what a browser shows of it."""

import gzip
import html
import json
import re
import shutil
import subprocess
from itertools import pairwise

import pytest

from lamer_fast.cli.report import run
from lamer_fast.config import Config
from lamer_fast.config.resolve import RECIPES
from lamer_fast.fields import to_flat
from lamer_fast.report.page import read_run, write_eval_report, write_report
from lamer_fast.text import printable

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = [
    "</script><script>document.body.dataset.evil='1'</script>",
    "</SCRIPT ><svg onload=document.body.dataset.evil=1>",
    "<!--<script>",
    "]]></script>",
    "<img src=x onerror=document.body.dataset.evil=1>",
    "&lt;b&gt; &#0; __DATA__ ${alert(1)} \\u003c \\",
    "a\0b \x1b[31mred \u202edlrow\u2028\ud800 '\"`",
]


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "runs" / "toy"
    (folder / "trials").mkdir(parents=True)
    (folder / "eval").mkdir()
    config = to_flat(Config(name="toy"))
    (folder / "config.json").write_text(json.dumps(config))
    record = {
        "success_at": [0.2, 0.4], "return": 1.0, "entropy": 0.5, "advantage_abs": 0.5, "loss": 0.1,
        "clipped": 0.0, "kl": 0.0, "grad_norm": 1.0, "lr": 1e-3,
        "mismatch": {"mean": 1e-7, "max": 1e-6, "k3": 0.0, "ess": 1.0},
        "tokens": {"prompt": 9, "sampled": 4, "trained": 4},
        "counters": {
            "turns": 9, "invalid": 1, "truncated": 0, "failed_trials": 0, "groups_dropped": 0, "updates": 2,
            "updates_empty": 0, "updates_skipped": 0,
        },
        "seconds": {
            "sample": 1.0, "env": 0.1, "learn": 1.0, "sync": 0.0, "least_sample": 0.1, "least_learn": 0.3,
        },
    }  # fmt: skip
    record |= {"eval": {
        "tasks": 9, "success_at": [0.1, 0.5], "success_low": [0.0, 0.25], "success_high": [0.3, 0.75],
        "independent": [0.1, 0.2], "independent_low": [0.0, 0.1], "independent_high": [0.2, 0.3],
    }}  # fmt: skip
    lines = [json.dumps({"iteration": i} | record) for i in range(3)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    turn = {
        "episode": 0,
        "turn": 0,
        "reward": -0.10000000149011612,
        "valid": True,
        "done": True,
        "success": False,
    }
    trial = {
        "group": 0, "trial": 1, "task": 5, "seed": 6, "success_by_episode": [False, True],
        "turns": [
            *(turn | {"phase": "play", "turn": i, "board": x, "reply": x} for i, x in enumerate(EVIL)),
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


def test_a_line_that_is_no_record_is_named(run_folder, capsys):
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    for wrong, message in (
        (json.loads(lines[0]) | {"tokens": {"prompt": 1}}, "line 4: tokens lacks sampled, trained"),
        ({"iteration": 3}, "line 4: record lacks mismatch"),
        ([3], "line 4: a record is a JSON object, got list"),
    ):
        (run_folder / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(wrong)]))
        assert run([str(run_folder)]) == 2
        assert message in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    for folder in (tmp_path, RECIPES / "minesweeper-tiny-base"):
        assert run([str(folder)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"lamer-fast report: {folder} is not the folder of a run"), told


def test_what_json_in_a_browser_does_not_know_becomes_null(run_folder):
    content = '{"label": "one", "iteration": 1, "evaluation": {"gain": NaN, "low": [-Infinity]}}'
    (run_folder / "eval" / "one.json").write_text(content)
    page = write_report(run_folder).read_text()
    assert '{"gain":null,"low":[null]}' in page


def test_a_megabyte_is_shortened(run_folder):
    path = run_folder / "trials" / "000002.jsonl.gz"
    with gzip.open(path, "rt") as f:
        trial = json.loads(f.read())
    trial["turns"][0]["reply"] = trial["turns"][0]["board"] = "x" * 1_000_000
    with gzip.open(path, "wt") as f:
        f.write(json.dumps(trial))
    turn = read_run(run_folder)["trials"][0]["turns"][0]
    assert turn["reply"] == turn["board"] and turn["reply"].endswith(" ... (980,000 more characters)")


def rendered(page, tmp_path):
    """What a browser makes of a page."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-quic",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert 'data-ready="true"' in out, "the page's script ran to its end"
    return re.sub(r"<script.*?</script>", "", out, flags=re.DOTALL)


@pytest.fixture
def dom(run_folder, tmp_path):
    return rendered(write_report(run_folder), tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_a_browser(dom):
    body = dom
    assert "data-evil" not in dom and "<img" not in body
    shown = [html.unescape(text) for text in re.findall(r'<pre class="reply">(.*?)</pre>', body, re.DOTALL)]
    assert shown == [*(printable(text) for text in EVIL), "mine at (2, 3)", "x"], "text is shown as text"
    assert body.count("<polyline") == 3 + 2 + 1 + 1 + 1 + 2 + 4 + 4, "every curve is drawn"
    assert body.count('class="interval"') == 3 * 3 + 2 * 4, "and every interval"
    assert "Episode 2" in body and "before: trials with reflections" in body and "reward -0.1," in body
    assert "iteration 2, trial 1" in body and "undefined" not in body and "NaN" not in body
    for chart in re.findall(r"<svg.*?</svg>", body, re.DOTALL):
        for axis in ("x", "y"):
            labels = [float(v) for v in re.findall(f'class="{axis}">([^<]*)</text>', chart)]
            steps = {f"{b - a:.3g}" for a, b in pairwise(labels)}
            assert len(steps) == 1 and steps.pop().strip("0.")[0] in "125", f"round steps, not {labels}"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_an_evaluation_in_a_browser(tmp_path):
    """Panels side by side, one of them without attempts, and no training."""
    point = {"mean": 0.5, "low": 0.4, "high": 0.6}
    own = {"num_tasks": 4, "episodes": 2, "trial": [point] * 2, "independent": [point] * 2}
    own |= {"gain_over_independent": point, "by_task": {"tasks": ["0123456789abcdef"]}}
    alone = own | {"independent": [], "gain_over_independent": None}
    record = {"label": "m", "policy": "<b>m", "evaluation": own, "panels": {"more": alone}}
    turn = {
        "phase": "play",
        "episode": 0,
        "turn": 0,
        "board": "? 1",
        "reply": "x",
        "reward": 1.0,
        "valid": True,
    }
    trial = {"trial": 0, "panel": "more", "success_by_episode": [True], "turns": [turn | {"success": True}]}
    with gzip.open(tmp_path / "trials.jsonl.gz", "wt") as f:
        f.write(json.dumps(trial) + "\n")
    body = rendered(write_eval_report(tmp_path, record), tmp_path)
    rows = re.findall(r'<td data-name="">([^<]*)</td>', body)
    assert rows == [
        "m: trials with reflections",
        "m: independent attempts",
        "m, more: trials with reflections",
    ]
    assert "more trial 0" in body and "&lt;b&gt;m" in body and "0123456789abcdef" not in body
    assert re.search(r'<section id="training" hidden', body)
    assert body.count("<polyline") == 3 and "undefined" not in body and "NaN" not in body
