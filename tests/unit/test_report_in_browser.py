"""The report page as a browser shows it, and as a reader uses it."""

import gzip
import html
import json
import math
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from lamer_fast.cli.report import run
from lamer_fast.report.page import write_comparison, write_eval_report, write_report
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
        "The evaluation after 2 iterations is the first that shows it: 50.0 [35.0, 75.0] % of the held-out "
        "boards solved with notes, 20.0 [10.0, 30.0] % in as many independent attempts"
    )
    assert (
        "Iteration 1, group 1, trial 2: after the note \u201c\u2068mine (1, 2)\u2069\u201d episode 2 answers"
        in said["changed"]
    )
    assert "\u201c\u2068(2, 1)\u2069\u201d instead of \u201c\u2068(1, 2)\u2069\u201d on" in said["changed"]
    assert "The note names the action that was given up. The episode wins." in said["changed"]
    assert (
        "repeats that action in 1 of 2 (50 %) recorded cases, another trial that knows neither"
        in said["changed"]
    )
    assert said["changed"].partition("knows neither in ")[2].startswith("1 of 1 (100 %).")
    assert said["blamed"].startswith("\u201c\u2068(1, 2)\u2069\u201d in iteration 1, group 1, trial 3: ")
    assert "(1 \u2212 probability) = \u22124 \u00d7 (1 \u2212 0.5) = \u22122." in said["blamed"]
    assert "In iteration 2: the largest difference of a token's log-probability is 0.5 nats" in said["gap"]
    assert (
        "most at \u201c\u2068action\u2069\u201d in iteration 1, group 1, trial 2: the trainer is 0.25 nats"
        in said["gap"]
    )
    assert "so that its probability is 28.4 % higher" in said["gap"]
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
    assert said["first"].startswith("iteration 0: success@1 50 [40, 60]"), (
        "one of a label, on the same boards"
    )
    assert said["second"].startswith("iteration 1: success@1 10 [0, 30]")
    evaluated = [f"evaluation after {i} iteration{'' if i == 1 else 's'}" for i in range(4)]
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
    assert said["spoken"] == "row 1: unknown, unknown; row 2: unknown, 1; action (1, 2)"
    for mode, colours in said["colours"].items():
        assert len(set(colours)) > 1, f"{mode} tells turns apart: {colours}"
    assert "--red" in said["colours"]["blame"][0] and "--green" in said["colours"]["blame"][-1]
    walls, row = ["cell wall"] * 3, ["cell player", "cell box", "cell target"]
    assert said["sokoban"] == [*walls, *row, "cell wall", "cell box target", "cell player target"]
    assert said["moved"] == ["\u2190", "\u2191", "", "", "\u263b", "\u2192"], "on the cells that are entered"
    assert said["steered"] == ["", "\u2191", "\u263b"], "where words hide their moves, by the next board"
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
    colliding = run_folder.parent.parent / "again" / "toy"
    shutil.copytree(run_folder, colliding)
    assert run([str(run_folder), str(colliding)]) == 0 and run([str(run_folder)] * 2) == 2
    assert "named twice" in capsys.readouterr().err
    for line in lines:
        line["success_at"] = [math.nan, math.inf]
    (colliding / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run([str(run_folder), str(colliding)]) == 0
    told = rendered(page, tmp_path)
    assert "<td>unknown / unknown</td>" in told and "cannot be drawn" not in told
    assert "<td>runs/toy</td>" in told and "<td>again/toy</td>" in told
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
    assert body.count('class="interval"') == 3 * 4 + 2 * 4, "and every interval"
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
    trial = {
        "group": 0,
        "trial": 0,
        "panel": "more",
        "success_by_episode": [True],
        "turns": [turn | {"success": True}],
    }
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


def test_what_cannot_be_drawn_takes_nothing_else_with_it(run_folder, tmp_path):
    """A run of an unknown version, with damaged trials, and values that JSON does not know."""
    (run_folder / "starts.jsonl").write_text('{"iteration": 0}\n{"iteration": 1, "card": {"parts": 3}}\n')
    (run_folder / "trials" / "000001.jsonl.gz").write_bytes(b"cut")
    path = run_folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1] |= {"mismatch": {key: math.nan for key in lines[1]["mismatch"]}, "loss": math.inf}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    body = html.unescape(rendered(write_report(run_folder), tmp_path))
    assert body.count("This part cannot be drawn") == 2, (
        "the card's memory, and the settings that it stands in"
    )
    assert "In iteration 1 their difference is not a finite number." in body
    assert "1 file of trials is damaged and left out: 000001.jsonl.gz is no whole gzip file" in body
    assert "success@k on training boards" in body and "The story of iteration 2" in body
    (loss,) = re.findall(r"<h3>loss</h3><svg.*?</svg>.*?role=\"status\">", body)
    assert loss.count("<polyline") == 2 and loss.count('class="broken"') == 1, (
        "a line breaks where it is infinite"
    )
    assert "NaN" not in body and "undefined, " not in body


def test_a_run_that_has_made_no_iteration(run_folder, tmp_path):
    for path in (run_folder / "metrics.jsonl", *(run_folder / "trials").iterdir()):
        path.unlink()
    body = rendered(write_report(run_folder), tmp_path)
    assert "No iteration of this run has been recorded yet." in body
    assert "At most 20.00 GiB of 24.00 GiB on the card" in body and "algo.gamma_traj" in body


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rollout.episodes": 1}, "None: a trial of this run is one episode, so that no note is ever used."),
        ({"rollout.reflect": False}, "This run writes no notes: later episodes know the earlier ones by"),
    ],
)
def test_a_run_without_notes_says_so(run_folder, tmp_path, settings, told):
    path = run_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    said, body = probed(write_report(run_folder), tmp_path)
    assert said["learned"].startswith(told)
    shape = "one episode" if "rollout.episodes" in settings else "up to 3 episodes"
    assert f"trials of {shape} of up to 7 turns" in body


def test_notes_that_helped_before_and_while_training(run_folder, tmp_path):
    """Without an evaluation by training trials, beside the first episodes of their groups."""
    path = run_folder / "metrics.jsonl"
    (line, *_) = [json.loads(line) for line in path.read_text().splitlines()]
    del line["eval"]
    path.write_text("")
    with path.open("a") as file:
        for i in range(15):
            beside = {"iteration": i, "independent": [0.2, 0.4 if i < 3 else 0.3]}
            file.write(json.dumps(line | beside) + "\n")
    said, body = probed(write_report(run_folder), tmp_path)
    assert said["learned"].endswith(
        "On the training boards, iterations 3 to 12 are the first ten in a row in each of which trials won "
        "more often than as many independent attempts."
    )
    assert "2 independent attempts 30" in body and "difference 10" in body
    before = json.loads((run_folder / "eval" / "before.json").read_text())
    before["evaluation"]["independent"] = [{"mean": 0.2, "low": 0.1, "high": 0.3}] * 2
    (run_folder / "eval" / "before.json").write_text(json.dumps(before))
    said, _ = probed(write_report(run_folder), tmp_path)
    assert said["learned"].startswith(
        "The model used them before training: 50.0 [40.0, 60.0] % of the held-out boards solved with notes, "
        "20.0 [10.0, 30.0] % in as many independent attempts. After 3 iterations: 50.0 [40.0, 60.0] %"
    )


def test_seven_runs_are_told_apart_by_their_lines(run_folder, tmp_path):
    """There are five colours: from the sixth on, lines are dashed, in the legend too."""
    runs = [run_folder, *(run_folder.parent / f"toy{i}" for i in range(6))]
    for other in runs[1:]:
        shutil.copytree(run_folder, other)
    body = rendered(write_comparison(runs), tmp_path)
    (chart,) = re.findall(r"<h3>return of a trial</h3>(.*?)<h3>", body)
    drawn = re.findall(r'<polyline[^>]*stroke="([^"]*)"[^>]*stroke-dasharray="([^"]*)"', chart)
    listed = re.findall(r'<i style="border-top: ?3px (\w+) (\S+?);?"', chart)
    assert len(set(drawn)) == len(set(listed)) == 7
    assert [colour for colour, _ in drawn] == [colour for _, colour in listed]
