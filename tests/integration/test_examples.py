"""The examples run as their pages say."""

import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lamer_fast import cli
from lamer_fast.envs import check_env

pytestmark = pytest.mark.long
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def treasure(tmp_path, monkeypatch):
    """A copy of the folder, which is the current one."""
    shutil.copytree(EXAMPLES / "treasure", tmp_path / "treasure")
    monkeypatch.chdir(tmp_path / "treasure")
    monkeypatch.syspath_prepend(str(tmp_path / "treasure"))
    return tmp_path / "treasure"


def test_treasure_keeps_the_protocol(treasure):
    module = importlib.import_module("treasure")
    assert check_env(module.Treasure(6, 4, 3), num_turns=20) == []


def test_treasure_trains(treasure, capsys):
    """As on its page, a few iterations of it; the model can be read from the start."""
    commands = re.findall(r"^lamer-fast (\S+) (\S+)", (treasure / "README.md").read_text(), re.MULTILINE)
    assert [command for command, _ in commands] == ["envs", "train", "eval", "play"]
    few = ["--train.iterations=3", "--rollout.groups=8", "--eval.every=0", "--train.num-threads=1"]
    assert cli.main(["train", "treasure.toml", *few]) == 0
    records = [json.loads(line) for line in Path("runs/treasure/metrics.jsonl").read_text().splitlines()]
    assert len(records) == 3
    for record in records:
        counters = record["counters"]
        assert not counters["failed_trials"] and counters["invalid"] < 0.2 * counters["turns"]
        assert record["success_at"][-1] > 0.2
    assert cli.main(["eval", "runs/treasure", "--tasks", "4"]) == 0
    assert cli.main(["play", "runs/treasure", "--pause", "0"]) == 0
    assert "Row 1: " in capsys.readouterr().out


def test_a_base_model_of_its_own_is_made_and_trained(treasure, tmp_path):
    """A warm start that was cut short writes one reply in five that cannot be read; training mends that. How
    often it wins hangs on the 16 boards of an iteration more than on twelve of them."""
    short = ["--updates", "15", "--decay_updates", "5", "--eval_every", "15"]
    assert cli.main(["warmstart", "warmstart.toml", "--out", "base", *short, "--num-threads", "1"]) == 0
    last = json.loads(Path("base/warmstart.jsonl").read_text().splitlines()[-1])
    assert last["valid_loss"] < last["loss"]
    few = ["--train.iterations=12", "--eval.every=0", "--train.num-threads=1"]
    assert cli.main(["train", "treasure.toml", "--model.path=base", *few]) == 0
    records = [json.loads(line) for line in Path("runs/treasure/metrics.jsonl").read_text().splitlines()]
    won = [record["success_at"][-1] for record in records]
    wrong = [record["counters"]["invalid"] / record["counters"]["turns"] for record in records]
    assert min(won) > 0.2
    assert np.mean(wrong[-4:]) < 0.5 * np.mean(wrong[:2])


def test_an_estimator_and_a_loss_of_ones_own_train(tmp_path, monkeypatch):
    for name in ("own_estimator.py", "own_estimator.toml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["train", "own_estimator.toml", "--train.iterations=2"]) == 0
    lines = Path("runs/own-estimator/metrics.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        assert record["counters"]["updates"] == 2 and record["advantage_abs"] > 0 and record["grad_norm"] > 0


def test_own_environment(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(EXAMPLES.parent)
    name = "examples.own_environment:Treasure"
    replies = "|".join(f"<action>({row}, {column})</action>" for row in (1, 2, 3) for column in (1, 2, 3))
    assert cli.main(["envs", "check", name, "--replies", replies, "--boards", "4"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    recipe = str(EXAMPLES / "own_environment.toml")
    assert cli.main(["train", recipe, "--runs", str(tmp_path), "--train.iterations", "2"]) == 0
    records = [json.loads(line) for line in (tmp_path / "own_environment" / "metrics.jsonl").open()]
    assert len(records) == 2 and all(r["counters"]["failed_trials"] == 0 for r in records)
    assert all(0 < r["success_at"][0] <= r["success_at"][-1] < 1 for r in records)
    assert all(r["counters"]["invalid"] < 0.1 * r["counters"]["turns"] for r in records)
