"""A user's own environment from the command line: train, go on, evaluate, play, report; one fails late."""

import json
from pathlib import Path

import pytest

from lamer_fast import cli
from tests.integration.tiny_run import recipe_file

pytestmark = pytest.mark.long
MODULE = '''
import numpy as np
from dataclasses import dataclass
from lamer_fast.envs.toy import NumberHunt

@dataclass(frozen=True)
class Options:
    highest: int = 50
    """The largest number that may hide."""
    fails_after: int = 0
    """Calls of step after which every one fails; 0: never."""

class Hunt(NumberHunt):
    num_steps = 0

    def step(self, replies, env_idx):
        self.num_steps += 1
        if self.num_envs > 2 and 0 < self.limit < self.num_steps:  # not on the two boards of the first check
            raise ConnectionError("the server has gone")
        return super().step(replies, env_idx)

    def task_texts(self, env_idx):
        return ["Be quick."] * len(env_idx)

def make(options: Options, num_envs: int):
    env = Hunt(num_envs, options.highest)
    env.limit = options.fails_after
    return env
'''


@pytest.fixture
def recipe(tmp_path, tiny_folder, monkeypatch):
    (tmp_path / "my_hunt.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    env = {"env__name": "my_hunt:make", "env__show_actions": False}
    path = recipe_file(tmp_path, tiny_folder, **env, train__iterations=2, train__save_every=1)
    games = ("env.height", "env.width", "env.num_mines", "env.style")
    lines = [line for line in path.read_text().splitlines() if not line.startswith(games)]
    path.write_text("\n".join([*lines, "env.highest = 60", "eval.every = 2", "eval.tasks = 4"]))
    return path


def test_every_command_takes_it(recipe, capsys):
    train = ["train", str(recipe), "--name", "r"]
    assert cli.main([*train, "--dry-run"]) == 0
    assert cli.main([*train, "--train.iterations=1"]) == 0 and cli.main(train) == 0
    records = [json.loads(line) for line in Path("runs/r/metrics.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in records] == [0, 1] and "eval" in records[1]
    assert json.loads(Path("runs/r/config.json").read_text())["env.highest"] == 60
    assert cli.main(["eval", "runs/r", "--tasks", "4", "--label", "after"]) == 0
    assert cli.main(["play", "runs/r", "--pause", "0"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "runs/r"]) == 0
    assert "my_hunt:make (highest 60, fails_after 0)" in Path("runs/r/report.html").read_text()
    assert cli.main([*train, "--env.highest=61"]) == 2
    assert "holds a run with env.highest = 60, now it is 61" in capsys.readouterr().err


def test_one_that_fails_late_ends_with_what_was_learnt(recipe, capsys):
    """A whole iteration takes at most 2 x 3 calls of step per trial, then every board fails."""
    settings = ["--eval.every=0", "--train.save-every=100", "--env.fails-after=18"]
    assert cli.main(["train", str(recipe), "--name", "r", *settings, "--train.iterations=9"]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "Traceback" not in out + err
    assert "6 of 6 trials failed, the first is trial" in err
    assert "step() raised ConnectionError: the server has gone (my_hunt.py:" in err
    (saved,) = Path("runs/r/checkpoints").iterdir()
    assert int(saved.name) == len(Path("runs/r/metrics.jsonl").read_text().splitlines()) > 0
