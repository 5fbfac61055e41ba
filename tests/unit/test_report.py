"""The report page as a file: what it takes from a run, what it leaves out, and its colours."""

import gzip
import json
import re

import pytest

from lamer_fast.cli.report import run
from lamer_fast.config.resolve import RECIPES
from lamer_fast.report.findings import Findings, add_changes
from lamer_fast.report.page import FOLDER, read_run, write_report
from tests.unit.report_run import notes_trial, write_run


@pytest.fixture
def run_folder(tmp_path):
    return write_run(tmp_path / "runs" / "toy")


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
    assert "first" not in told and told["most"]["iteration"] == 0 and told["last"]["iteration"] == 3
    record = json.loads((run_folder / "eval" / "after.json").read_text())
    record["evaluation"]["independent"] = [{"mean": 0.2, "low": 0.1, "high": 0.3}] * 2
    (run_folder / "eval" / "after.json").write_text(json.dumps(record))
    told = read_run(run_folder)["findings"]["learned"]["first"]
    assert told["iteration"] == 3 and told["success_at"] == [0.5, 0.5]


def test_a_corrupted_metrics_file_is_named(run_folder, capsys):
    with open(run_folder / "metrics.jsonl", "a") as f:
        f.write('{"iteration": 3, "succ\n')
    assert run([str(run_folder)]) == 2
    assert "metrics.jsonl, line 4 is not JSON" in capsys.readouterr().err


def test_the_line_that_a_run_is_writing_is_left_out(run_folder):
    with open(run_folder / "metrics.jsonl", "a") as f:
        f.write('{"iteration": 3, "succ')
    assert [m["iteration"] for m in read_run(run_folder)["metrics"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", b"[1]", "config.json lacks name, env.name"),
        ("config.json", b"{}", "config.json lacks name, env.name"),
        ("config.json", None, "config.json is missing"),
        ("config.json", b'{"name": "\xe9"}', "config.json is not JSON: 'utf-8' codec can't decode byte 0xe9"),
        ("metrics.jsonl", b'{"a": "\xff"}\n', "metrics.jsonl, line 1 is not JSON: 'utf-8' codec"),
        (
            "metrics.jsonl",
            b"[" * 200_000 + b"\n",
            "metrics.jsonl, line 1 is not JSON: maximum recursion depth",
        ),
        ("starts.jsonl", b"{\n", "starts.jsonl, line 1 is not JSON"),
        ("eval/x.json", b"{", "x.json is not JSON"),
        ("eval/x.json", b'{"label": "\xff"}', "x.json is not JSON: 'utf-8' codec"),
        ("eval/x.json", b"[]", "x.json is no record of an evaluation"),
    ],
)
def test_a_damaged_file_is_named(run_folder, capsys, file, content, told):
    (run_folder / ".lamer-fast-run").touch()
    if content is None:
        (run_folder / file).unlink()
    else:
        (run_folder / file).write_bytes(content)
    assert run([str(run_folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{run_folder}/" in line and told in line


def test_damaged_trials_are_left_out_and_named(run_folder):
    folder = run_folder / "trials"
    whole = (folder / "000001.jsonl.gz").read_bytes()
    (folder / "000003.jsonl.gz").write_bytes(whole[:-40])
    (folder / "000004.jsonl.gz").write_bytes(gzip.compress(b'{"trial": 1}\n'))
    (folder / "000005.jsonl.gz").write_bytes(gzip.compress(b'{"reply": "\xff"}\n'))
    turn = {"group": 0, "trial": 0, "success_by_episode": [], "turns": [{"phase": "play"}]}
    (folder / "000006.jsonl.gz").write_bytes(gzip.compress(json.dumps(turn).encode()))
    (folder / "000007.jsonl.gz").write_bytes(b"")  # of an iteration that is being written
    data = read_run(run_folder)
    assert {trial["iteration"] for trial in data["trials"]} == {1, 2}
    told = data["findings"]["unread"]
    assert told[0].startswith("000003.jsonl.gz is no whole gzip file")
    assert told[1:2] + told[3:] == [
        "000004.jsonl.gz, line 1 is no trial: it has no group",
        "000006.jsonl.gz, line 1 is no trial: its turn 0 has no episode",
    ]
    assert told[2].startswith("000005.jsonl.gz, line 1 is not JSON")


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


def test_a_folder_of_runs_and_a_part_of_one_say_what_may_be_meant(run_folder, capsys):
    assert run([str(run_folder.parent)]) == 2
    assert capsys.readouterr().err.endswith("a run's settings; it holds toy\n")
    assert run([str(run_folder / "trials")]) == 2
    assert capsys.readouterr().err.endswith(f"; {run_folder} is one\n")


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


def test_the_trial_that_changed_its_mind_is_the_one_with_the_best_evidence():
    def trial(number, note, thought="", valid=True):
        found = notes_trial(number, [1.0] * 3)
        lost, reflection, won = found["turns"]
        lost |= {"reply": thought + lost["reply"], "valid": valid}
        found["turns"] = [lost, reflection | {"reply": note}, won]
        return found

    findings = Findings()
    told = []
    for each in (
        trial(0, "mine (1, 2)", valid=False),  # it could only act differently
        trial(1, "be careful"),
        trial(2, "mine (1, 2), try (2, 1)"),
        trial(3, "try (2, 1)"),
        trial(4, "mine (1, 2)", thought="(3, 3)? No.</think>"),
        trial(5, "mine (1, 2)"),
    ):
        findings.add(each)
        told.append(findings.found()["changed"]["trial"])
    assert told == [0, 1, 2, 3, 4, 4]
    found = findings.found()
    assert (
        found["changed"]["before"] == "(1, 2)" and found["noted"] == [6, 0] and found["unknowing"] == [0, 5]
    )
    thought = trial(6, "mine (1, 2)")
    thought["turns"][2] |= {"reply": "Now (1, 2).</think><action>(1, 2)</action>", "success": False}
    assert add_changes(thought) == [], "another thought before the same action is no other action"


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


def test_long_replies_leave_room_for_other_iterations(run_folder):
    """What a model with reasoning writes: the values of all its tokens would take 14 MB."""
    text, n = " word", 1_000
    values = {key: [-0.25] * n for key in ("rollout_logprobs", "trainer_logprobs", "entropy")}
    values |= {"token_texts": [text] * n, "token_ids": [7] * n, "reply": text * n, "truncated": False}
    for iteration in (3, 4, 5):
        trials = [notes_trial(m, [-9.0 - m] * 3) | {"group": 0} for m in range(8)]
        for trial in trials:
            trial["turns"] = [turn | values for turn in trial["turns"] * 9]
        with gzip.open(run_folder / "trials" / f"{iteration:06d}.jsonl.gz", "wt", 1) as f:
            f.writelines(json.dumps(trial) + "\n" for trial in trials)
    assert write_report(run_folder).stat().st_size < 3_000_000
    data = read_run(run_folder)
    assert {trial["iteration"] for trial in data["trials"]} == {1, 2, 3, 4, 5}
    assert {trial["iteration"] for trial in data["trials"] if trial.get("shortened")} == {3, 4, 5}
    blamed = data["findings"]["blamed"]
    (trial,) = [
        t for t in data["trials"] if all(t[key] == blamed[key] for key in ("iteration", "group", "trial"))
    ]
    kept = [i for i, turn in enumerate(trial["turns"]) if "tokens" in turn]
    assert kept == [blamed["index"]], "the turn that an answer names has its values"


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
