"""The report page: data in, nothing executed, and what a browser shows of it."""

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
from lamer_fast.config import Config
from lamer_fast.config.resolve import RECIPES
from lamer_fast.fields import to_flat
from lamer_fast.report.page import FOLDER, read_run, write_eval_report, write_report
from lamer_fast.text import printable

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
GIB = 1 << 30


def notes_trial(trial, advantages):
    """Fails at (1, 2), notes it, and goes elsewhere."""
    play = {"phase": "play", "episode": 0, "turn": 0, "board": "Row 1: ? ?\nRow 2: ? 1", "valid": True}
    play |= {"reply": "<action>(1, 2)</action>", "reward": -0.1, "done": True, "success": False}
    note = play | {"phase": "reflect", "episode": 1, "reply": "mine (1, 2)", "reward": 0.0, "done": False}
    again = play | {"episode": 1, "reply": "<action>(2, 1)</action>", "reward": 10.0, "success": True}
    turns = [play, note, again]
    values = {
        "rollout_logprobs": [-0.693147, -0.1],
        "trainer_logprobs": [-0.693147, None],
        "entropy": [1.0, None],
    }
    texts = [["(1, 2)", "<|end|>"], ["mine", "<|end|>"], ["action", "<|end|>"]]
    turns = [
        turn
        | values
        | {"token_texts": t, "token_ids": [5, 6], "advantage": a, "return": a, "truncated": False}
        for turn, t, a in zip(turns, texts, advantages, strict=True)
    ]
    return {
        "group": 1,
        "trial": trial,
        "task": 2**63 + 1,
        "seed": 7,
        "turns": turns,
        "success_by_episode": [False, True],
    }


EVIL = [
    "</script><script>document.body.dataset.evil='1'</script>",
    "</SCRIPT ><svg onload=document.body.dataset.evil=1>",
    "<!--<script>",
    "]]></script>",
    "<img src=x onerror=document.body.dataset.evil=1>",
    "&lt;b&gt; &#0; __DATA__ ${alert(1)} \\u003c \\",
    "a\0b \x1b[31mred \u202edlrow\u2028\ud800 '\"`",
]


def write_starts(folder):
    part = {"name": "activations", "bytes": 15 * GIB, "when": "updating", "on_host": False}
    parts = [part | {"settings": ["learn.max_microbatch_tokens"]}]
    parts.append(
        {"name": "boards", "bytes": GIB, "when": "always", "on_host": True, "settings": ["rollout.groups"]}
    )
    card = {"available": 24 * GIB, "total": 20 * GIB, "host": GIB, "sampler": "torch", "parts": parts}
    start = {
        "time": "now",
        "version": "0.1.0",
        "commit": "abc",
        "device": "CPU, <b>big",
        "threads": 1,
        "cores": 2,
    }
    start |= {"versions": {"torch": "2"}, "card": card, "system": "x"}
    lines = [start | {"iteration": 0}, start | {"iteration": 2, "time": "later"}]
    (folder / "starts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


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
    records = [{"iteration": i} | record for i in range(3)]
    records[2] = records[2] | {"mismatch": record["mismatch"] | {"max": 0.5}}
    records[1] = records[1] | {"counters": record["counters"] | {"updates_skipped": 3}}
    records[1] = records[1] | {"eval": record["eval"] | {"success_low": [0.0, 0.35]}}
    lines = [json.dumps(one) for one in records]
    write_starts(folder)
    telling, blamed = notes_trial(2, [2.0, 3.0, 4.0]), notes_trial(3, [-4.0, -1.0, 1.0])
    telling["turns"][2]["trainer_logprobs"] = [-0.443147, None]
    blamed["turns"][1] |= {
        "trainer_logprobs": [-2.1, None],
        "rollout_logprobs": [-2.0, -0.1],
        "entropy": [2.0, 0],
    }
    blamed["turns"][2]["reply"] = blamed["turns"][0]["reply"]
    with gzip.open(folder / "trials" / "000001.jsonl.gz", "wt") as f:
        f.writelines(json.dumps(trial) + "\n" for trial in (telling, blamed))
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


def test_the_evaluation_whose_intervals_part_may_be_one_of_a_label(run_folder):
    """Of a run that evaluated nothing while it trained."""
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["eval"]
    (run_folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = read_run(run_folder)["findings"]["learned"]
    assert not told["found"] and told["iteration"] == 0
    record = json.loads((run_folder / "eval" / "after.json").read_text())
    record["evaluation"]["independent"] = [{"mean": 0.2, "low": 0.1, "high": 0.3}] * 2
    (run_folder / "eval" / "after.json").write_text(json.dumps(record))
    told = read_run(run_folder)["findings"]["learned"]
    assert told["found"] and told["iteration"] == 3 and told["success_at"] == [0.5, 0.5]


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
        ([3], "line 4 is no JSON object"),
    ):
        (run_folder / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(wrong)]))
        assert run([str(run_folder)]) == 2
        assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert run([str(tmp_path / "mine")]) == 2
    assert f"{tmp_path / 'mine'}: no such folder; lamer-fast runs lists" in capsys.readouterr().err


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


def rewrite(path, change):
    """The trials of a file, each after `change`."""
    with gzip.open(path, "rt") as f:
        trials = [json.loads(line) for line in f]
    with gzip.open(path, "wt") as f:
        f.writelines(json.dumps(change(trial)) + "\n" for trial in trials)


def test_a_megabyte_is_shortened(run_folder):
    def long(trial):
        trial["turns"][0]["reply"] = trial["turns"][0]["board"] = "x" * 1_000_000
        return trial

    rewrite(run_folder / "trials" / "000002.jsonl.gz", long)
    (turn,) = [t["turns"][0] for t in read_run(run_folder)["trials"] if t["iteration"] == 2]
    assert turn["reply"] == turn["board"] and turn["reply"].endswith(" ... (980,000 more characters)")


def test_a_page_stays_below_3_megabytes_and_says_what_it_left_out(run_folder):
    """Of the worst text: each of its characters takes six in the page."""
    trial = notes_trial(0, [-1.0] * 3) | {"trial": 0}
    trial["turns"] = [turn | {"reply": "<" * 9000} for turn in trial["turns"]]
    for iteration in range(3, 40):
        with gzip.open(run_folder / "trials" / f"{iteration:06d}.jsonl.gz", "wt") as f:
            f.writelines(json.dumps(trial | {"group": g}) + "\n" for g in range(4))
    page, data = write_report(run_folder), read_run(run_folder)
    assert page.stat().st_size < 3_000_000
    assert 0 < data["findings"]["shown"] == len(data["trials"]) < data["findings"]["searched"] == 3 + 37 * 4
    told = data["findings"]["changed"]
    found = [(t["iteration"], t["group"], t["trial"]) for t in data["trials"]]
    assert (told["iteration"], told["group"], told["trial"]) in found, "what an answer names is shown"


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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize(("width", "letters"), [(400, 15), (3840, 22)])
def test_the_page_fits_a_telephone_and_a_wall(run_folder, tmp_path, width, letters):
    said, _ = probed(write_report(run_folder), tmp_path, width)
    assert said["width"] == width and said["wide"] is False and said["letters"] == letters


def luminance(colour):
    """Of WCAG 2, red, green and blue from 0 to 255."""
    shares = [x / 255 for x in colour]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_told_from_what_is_behind_it(scheme):
    """At least 4.5 to 1, as WCAG 2 asks of text; a token at full colour included (70 % over its card)."""
    css = (FOLDER / "style.css").read_text()
    found = dict(re.findall(r"--([\w-]+): (#\w+);", re.findall(r":root \{([^}]*)\}", css)[scheme]))
    full = {name: re.sub(r"^#(.)(.)(.)$", r"#\1\1\2\2\3\3", value) for name, value in found.items()}
    colours = {name: [int(value[i : i + 2], 16) for i in (1, 3, 5)] for name, value in full.items()}
    pairs = [
        (text, back) for text in ("ink", "soft", "blue", "green", "amber", "red") for back in ("back", "card")
    ]
    for name in ("blue", "green", "amber", "red"):
        over = zip(colours[f"{name}-back"], colours["card"], strict=True)
        colours[f"{name} token"] = [0.7 * full + 0.3 * card for full, card in over]
        pairs.append(("ink", f"{name} token"))
    for text, back in pairs:
        low, high = sorted((luminance(colours[text]), luminance(colours[back])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text} on {back}"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
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
    rows = re.findall(r"<tr><td>([^<]*)</td>", body)
    assert rows == [
        "m: trials with reflections",
        "m: independent attempts",
        "m, more: trials with reflections",
    ]
    assert "more trial 0" in body and "&lt;b&gt;m" in body and "0123456789abcdef" not in body
    assert re.search(r'<section id="training"[^>]* hidden', body)
    assert body.count("<polyline") == 3 and "undefined" not in body and "NaN" not in body
