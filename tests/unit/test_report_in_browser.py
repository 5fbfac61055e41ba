"""The report page as a browser shows it, and as a reader uses it."""

import gzip
import html
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from lamer_fast.cli.report import run
from lamer_fast.report.page import write_eval_report, write_report
from lamer_fast.text import printable
from tests.unit.report_run import EVIL, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path / "runs" / "toy")


def rendered(page, tmp_path, width=1200):
    """What a browser makes of a page."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-quic",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
        "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert 'data-ready="true"' in out, "the page's script ran to its end"
    return re.sub(r"<script.*?</script>", "", out, flags=re.DOTALL)


PROBE = f"<script>{Path(__file__).with_name('report_probe.js').read_text()}</script>"


def probed(page, tmp_path, width=1200):
    """(what the page shows after a reader used it, the page).

    It stands in a frame: no window of Chromium is narrower than 500.
    """
    inner = page.read_text().replace("</body>", PROBE + "</body>")
    frame = f'<iframe srcdoc="{html.escape(inner)}" style="border:0;height:900px;width:{width}px"></iframe>'
    copied = "document.body.replaceWith(document.querySelector('iframe').contentDocument.body)"
    copy = tmp_path / "probed.html"
    copy.write_text(
        f'<!doctype html><meta charset="utf-8"><body>{frame}<script>onload = () => {copied}</script>'
    )
    body = rendered(copy, tmp_path, max(width, 500))
    return json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', body, re.DOTALL)[1])), body


def test_five_questions_are_answered_on_the_page(run_folder, tmp_path):
    said, _ = probed(write_report(run_folder), tmp_path, width=400)
    assert said["learned"].startswith(
        "The evaluation after 2 iterations is the first whose intervals part: 50.0"
    )
    assert (
        "Iteration 1, group 1, trial 2: after the note \u201cmine (1, 2)\u201d episode 2 answers"
        in said["changed"]
    )
    assert "<action>(2, 1)</action> instead of <action>(1, 2)</action>" in said["changed"]
    assert "the action that the note names, and wins." in said["changed"]
    assert said["blamed"].startswith('"(1, 2)" in iteration 1, trial 3: advantage \u22124')
    assert said["gap"].startswith("In iteration 2: 0.5 nats at most") and "0.25 nats above" in said["gap"]
    assert '"action" in iteration 1, trial 2' in said["gap"]
    assert "At most 20.00 GiB of 24.00 GiB on the card, so it fits, and 1.00 GiB of the host" in said["card"]
    assert "Most of it: activations, 15.00 GiB, sized by learn.max_microbatch_tokens" in said["card"]
    assert said["nameless"] == 0, "a screen reader has a name for everything to use or look at"
    assert said["skipped"] == 0, "headings go down by one level"


@pytest.mark.parametrize(("width", "letters"), [(400, 15), (3840, 22)])
def test_the_page_fits_a_telephone_and_a_wall(run_folder, tmp_path, width, letters):
    said, _ = probed(write_report(run_folder), tmp_path, width)
    assert said["width"] == width and said["wide"] is False and said["letters"] == letters


def test_a_reader_finds_and_follows_a_trial(run_folder, tmp_path):
    said, _ = probed(write_report(run_folder), tmp_path)
    assert said["first"].startswith("iteration 1: success@1 10 [0, 30]")
    assert said["second"].startswith("iteration 2: success@1 10 [0, 30]")
    evaluated = ["evaluation after 1 iteration", *(f"evaluation after {i} iterations" for i in (2, 3))]
    happened = ["iteration 1: 3 updates skipped, not finite", "resumed after 2 iterations, later"]
    assert said["marks"] == [*happened, *evaluated]
    assert said["changedOnly"] == "1 of 3 trials" and said["none"] == "0 of 3 trials"
    assert said["search"] == "2 of 3 trials"
    assert (said["stops"], said["walked"]) == (1, 1), (
        "Tab passes the list in one step, arrow keys go through it"
    )
    assert said["change"].startswith(
        "What the next episode did differently: on the same first board it answers"
    )
    assert said["story"] == "The story of iteration 1, group 1, trial 3"
    assert said["current"] == "(1, 2)" and "advantage \u22124, blame \u22122" in said["token"]
    assert said["next"] == "<|end|>" and said["back"] == "(1, 2)", "arrow keys go from token to token"
    assert [text[:8] for text in said["peers"]] == ["trial 2 ", "trial 3 "], "its group side by side"
    assert "first advantage \u22124" in said["peers"][1] and "first advantage 2" in said["peers"][0]
    assert said["cells"] == ["cell unknown", "cell unknown chosen", "cell unknown", "cell open"]
    assert said["spoken"] == "row 1: unknown, unknown; row 2: unknown, 1"
    for mode, colours in said["colours"].items():
        assert len(set(colours)) > 1, f"{mode} tells turns apart: {colours}"
    assert "--red" in said["colours"]["blame"][0] and "--green" in said["colours"]["blame"][-1]
    walls, row = ["cell wall"] * 3, ["cell player", "cell box", "cell target"]
    assert said["sokoban"] == [*walls, *row, "cell wall", "cell box target", "cell player target"]
    assert said["told"] == [9, "up: nothing"], "words below a board are words"
    assert said["other"] == "PRE"


def test_runs_beside_each_other(run_folder, tmp_path, capsys):
    other = run_folder.parent / "<b>other"
    shutil.copytree(run_folder, other)
    path = other / "metrics.jsonl"
    lines = [json.loads(line) | {"critic_loss": 2.0} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = json.loads((other / "config.json").read_text()) | {"name": "<b>other", "algo.gamma_traj": 0.25}
    (other / "config.json").write_text(json.dumps(config))
    assert run([str(run_folder), str(other)]) == 0
    page = run_folder.parent / "comparison.html"
    assert capsys.readouterr().out.strip() == str(page)
    body = rendered(page, tmp_path)
    assert "&lt;b&gt;other" in body and "<b>" not in body
    assert (
        "<td>algo.gamma_traj</td><td>0.6</td><td>0.25</td>" in body and "<td>algo.gamma_step</td>" not in body
    )
    colours = re.findall(r'<polyline[^>]*stroke="var\(--(\w+)\)"', body.partition('id="evaluations"')[0])
    assert colours == ["blue", "amber"] * 7 + ["amber"], "a run keeps its colour, alone in its chart too"
    assert body.count("<polyline") == 7 * 2 + 1 + 8 and "undefined" not in body and "NaN" not in body


def test_what_an_algorithm_adds_to_its_records_is_drawn(run_folder, tmp_path):
    """Those of a critic and of drawn groups by their names; those of a later version under their keys."""
    path = run_folder / "metrics.jsonl"
    added = {"critic_loss": 12.5, "critic_explained": 0.25, "critic_value": 3.0, "critic_grad_norm": 4.0}
    added |= {
        "stage": 1,
        "consolidation_loss": 0.5,
        "consolidated": 3,
        "groups_played": 16,
        "groups_flat_drawn": 5,
        "groups_flat": 2,
    }
    added |= {"levels": {"<b>easy": 0.5, "hard": 0.125}, "odd_words": "none", "odd_number": 7}
    lines = [json.loads(line) | added for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    body = rendered(write_report(run_folder), tmp_path)
    charts = dict(re.findall(r'<div class="card chart"><h3>(.*?)</h3>.*?class="readout"[^>]*>(.*?)<', body))
    read = {title.partition(",")[0]: html.unescape(told).partition(";")[0] for title, told in charts.items()}
    assert read["critic: explained variance of returns"] == "iteration 2: explained 0.25"
    assert read["critic: squared error of its values"] == "iteration 2: loss 12.5"
    assert read["critic: mean value"] == "iteration 2: value 3, return 1"
    assert "played 16, alike as drawn 5, alike as trained on 2" in read["groups of an iteration"]
    assert read["stage of the curriculum"] == "iteration 2: stage 1"
    assert read["consolidation: trials of an iteration that taught"] == "iteration 2: trials 3"
    assert read["norm of the gradient"] == "iteration 2: policy 1, critic 4"
    assert read["levels"] == "iteration 2: <b>easy 0.5, hard 0.125"
    assert read["odd number"] == "iteration 2: odd_number 7"
    assert "odd words" not in read and "undefined" not in body and "NaN" not in body


@pytest.fixture
def dom(run_folder, tmp_path):
    (run_folder / "trials" / "000001.jsonl.gz").unlink()
    return rendered(write_report(run_folder), tmp_path)


def test_in_a_browser(dom):
    body = dom
    assert "data-evil" not in dom and "<img" not in body
    shown = [html.unescape(text) for text in re.findall(r'<pre class="reply">(.*?)</pre>', body, re.DOTALL)]
    assert shown == [*(printable(text) for text in EVIL), "mine at (2, 3)", "x"], "text is shown as text"
    assert body.count("<polyline") == 3 + 3 + 1 + 1 + 1 + 2 + 4 + 2 + 8 + 4, "every curve is drawn"
    assert body.count('class="interval"') == 3 * 3 + 2 * 4, "and every interval"
    assert "Episode 2" in body and "before: trials with reflections" in body and "reward \u22120.1," in body
    assert "iteration 2, group 0, trial 1" in body and "undefined" not in body and "NaN" not in body
    assert "CPU, &lt;b&gt;big" in body and "boards of an unrecorded panel" in body
    for chart in re.findall(r"<svg.*?</svg>", body, re.DOTALL):
        for axis in ("x", "y"):
            labels = [float(v) for v in re.findall(f'class="{axis}">([^<]*)</text>', chart)]
            steps = {f"{b - a:.3g}" for a, b in pairwise(labels)}
            assert len(steps) == 1 and steps.pop().strip("0.")[0] in "125", f"round steps, not {labels}"


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
    rows = re.findall(r"<tr><td>([^<]*)</td>", body)
    assert rows == [
        "m: trials with reflections",
        "m: independent attempts",
        "m, more: trials with reflections",
    ]
    assert "more trial 0" in body and "&lt;b&gt;m" in body and "0123456789abcdef" not in body
    assert re.search(r'<section id="training"[^>]* hidden', body)
    assert body.count("<polyline") == 3 and "undefined" not in body and "NaN" not in body
