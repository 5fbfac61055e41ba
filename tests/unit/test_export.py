"""Recorded trials as logs of Inspect: the shape that its package demands, and the package itself."""

import gzip
import json

import pytest

from lamer_fast import cli

# what inspect-ai 0.3.285 refuses a log without
REQUIRED = {
    "eval": ("created", "task", "dataset", "model", "config"),
    "samples": ("id", "epoch", "input", "target"),
    "messages": ("role", "content"),
    "span_begin": ("id", "name"),
    "span_end": ("id",),
    "model": ("model", "input", "tools", "tool_choice", "config", "output"),
}
BOARD = "# # #\n# P #\n# # #"


def turn(phase, episode, number, reply, **more):
    values = {"reward": 0.5, "valid": True, "done": False, "success": False} | more
    return {"phase": phase, "episode": episode, "turn": number, "board": BOARD, "reply": reply, **values}


def trial(group, number, won):
    last = {"success": won, "done": True, "advantage": -1.5, "return": 2.0, "anchor": "00ff"}
    last |= {"token_texts": ["go", " \ud83d", "!"], "rollout_logprobs": [-0.5, None, -0.25], "entropy": [1.0]}
    turns = [
        turn("play", 0, 0, "up"),
        turn("reflect", 1, 0, "look"),
        turn("play", 1, 0, "go \ud83d!", **last),
    ]
    of_it = {"task": 2**64 - 1, "seed": 2**63, "success_by_episode": [False, won], "turns": turns}
    return {"group": group, "trial": number, **of_it}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run" / "trials").mkdir(parents=True)
    settings = {"name": "walls_2", "version": "0.1.0", "model.path": "base", "env.name": "sokoban"}
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    trials = [trial(0, 0, True), trial(0, 1, False), trial(3, 2, True)]
    for iteration in (0, 12):
        with gzip.open(tmp_path / "run" / "trials" / f"{iteration:06d}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(line) + "\n" for line in trials)
    return tmp_path / "run"


@pytest.fixture
def logs(run, tmp_path, capsys):
    assert cli.main(["export", str(run), "--out", str(tmp_path / "logs")]) == 0
    assert "2 logs in" in capsys.readouterr().out
    return sorted((tmp_path / "logs").iterdir(), key=lambda path: path.name.rpartition("_")[2])


def test_a_log_an_iteration_and_a_sample_a_group(logs):
    log = json.loads(logs[1].read_bytes())
    assert logs[1].name.endswith("+00-00_walls-2_000012.json")
    assert log["version"] == 2 and not set(REQUIRED["eval"]) - log["eval"].keys()
    assert (log["eval"]["task"], log["eval"]["model"]) == ("walls_2", "base + 12 iterations")
    assert [(s["id"], s["epoch"]) for s in log["samples"]] == [(0, 1), (0, 2), (3, 1)]
    means = {score["name"]: score["metrics"]["mean"]["value"] for score in log["results"]["scores"]}
    assert means == {"success@2": pytest.approx(2 / 3), "success@1": 0.0, "reward": 1.5}
    for sample in log["samples"]:
        assert not set(REQUIRED["samples"]) - sample.keys()
        assert all(message.keys() >= set(REQUIRED["messages"]) for message in sample["messages"])
        assert all(event.keys() >= set(REQUIRED[event["event"]]) for event in sample["events"])


def test_a_trial_is_told_turn_by_turn(logs):
    sample = json.loads(logs[0].read_bytes())["samples"][0]
    spans = [event["name"] for event in sample["events"] if event["event"] == "span_begin"]
    assert spans == ["episode 1", "reflection before episode 2", "episode 2"]
    assert sample["metadata"] == {"trial": 0, "task": "f" * 16, "seed": "8" + "0" * 15}
    board, reply = sample["messages"][-2:]
    assert board["content"] == f"```\n{BOARD}\n```", "a row of walls is no heading"
    assert reply["content"] == "go ?!" and reply["metadata"]["advantage"] == -1.5
    output = [event for event in sample["events"] if event["event"] == "model"][-1]["output"]
    tokens = [(t["token"], t["logprob"]) for t in output["choices"][0]["logprobs"]["content"]]
    assert tokens == [("go", -0.5), ("!", -0.25)] and output["metadata"] == {"entropy": [1.0]}


def test_the_package_reads_them(logs):
    log_of = pytest.importorskip("inspect_ai.log", reason="inspect-ai is not installed")
    found = log_of.list_eval_logs(str(logs[0].parent))
    assert sorted(log.task_id for log in found) == ["000000", "000012"]
    log = log_of.read_eval_log(str(logs[1]))
    assert log.eval.dataset.sample_ids == [0, 3] and log.results.scores[0].name == "success@2"
    last = log.samples[0].messages[-1]
    assert (last.role, last.metadata["return"]) == ("assistant", 2.0)
    assert log.samples[0].events[-2].output.choices[0].logprobs.content[1].token == "!"


def test_the_panels_of_an_evaluation_are_logs_of_their_own(run, tmp_path, capsys):
    folder = tmp_path / "evaluated"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps({"policy": "runs/x", "settings": {"model.path": "base"}}))
    with gzip.open(folder / "trials.jsonl.gz", "wt") as file:
        for line in (trial(0, 0, True), trial(0, 0, False) | {"panel": "harder: 4", "error": "lost"}):
            file.write(json.dumps(line) + "\n")
    assert cli.main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0
    names = sorted(path.name.partition("_")[2] for path in (tmp_path / "out").iterdir())
    assert names == ["runs-x_all.json", "runs-x_harder--4.json"]


@pytest.mark.parametrize("below", ["", "deep/er"])
@pytest.mark.parametrize(
    "command",
    [
        ["export", "RUN", "--out"],
        ["study", "main", "--out"],
        ["warmstart", "minesweeper-tiny-base", "--out"],
        ["bench", "credit", "--out"],
        ["runs", "--runs"],
    ],
    ids=" ".join,
)
def test_a_file_in_the_place_of_a_folder_is_named(command, below, run, tmp_path, capsys):
    (tmp_path / "one.json").write_text("kept")
    words = [str(run) if word == "RUN" else word for word in command]
    assert cli.main([*words, str(tmp_path / "one.json" / below)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'one.json'} is a file; name a folder" in line
    assert (tmp_path / "one.json").read_text() == "kept"


def test_folders_above_the_logs_are_made(run, tmp_path, capsys):
    assert cli.main(["export", str(run), "--out", str(tmp_path / "a" / "b")]) == 0
    assert len(list((tmp_path / "a" / "b").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("empty", "holds no trials: expected trials/*.jsonl.gz"),
        ("other.jsonl", "other.jsonl, line 1 is no trial: it has no group"),
        ("text.jsonl", "text.jsonl, line 1 is not JSON"),
        ("list.jsonl", "list.jsonl, line 1 is no JSON object"),
        ("latin.jsonl", "latin.jsonl, line 2 is not JSON: 'utf-8' codec can't decode byte 0xe9"),
        ("cut.jsonl.gz", "cut.jsonl.gz is no whole gzip file"),
        ("plain.jsonl.gz", "plain.jsonl.gz is no whole gzip file"),
    ],
)
def test_what_cannot_be_exported_is_told(target, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.jsonl").write_text('{"reward": 1}\n')
    (tmp_path / "text.jsonl").write_text("a trial\n")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "latin.jsonl").write_bytes(b'{"reply": "a"}\n{"reply": "\xe9"}\n')
    (tmp_path / "plain.jsonl.gz").write_text("{}\n")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"group": 1}\n' * 9)[:-9])
    assert cli.main(["export", target]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "logs").exists()
