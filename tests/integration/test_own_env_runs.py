"""A user's own environment from the command line: train, go on, evaluate, play, report; one fails late."""

import itertools
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
    fails_with: int = 6
    """Boards of the environment that fails then."""

class Hunt(NumberHunt):
    num_steps = 0

    def step(self, replies, env_idx):
        Hunt.num_steps += 1
        if 0 < self.limit < Hunt.num_steps and self.num_envs == self.broken:
            raise ConnectionError("the server has gone")
        return super().step(replies, env_idx)

    def task_texts(self, env_idx):
        return ["Be quick."] * len(env_idx)

def make(options: Options, num_envs: int):
    env = Hunt(num_envs, options.highest)
    env.limit, env.broken = options.fails_after, options.fails_with
    return env
'''


numbers = itertools.count()


@pytest.fixture
def recipe(tmp_path, tiny_folder, monkeypatch):
    """Of an environment whose training has six boards, and whose evaluations have four."""
    module = f"my_hunt_{next(numbers)}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    env = {"env__name": f"{module}:make", "env__show_actions": False}
    path = recipe_file(tmp_path, tiny_folder, **env, train__iterations=2, train__save_every=1)
    games = ("env.height", "env.width", "env.num_mines", "env.style")
    lines = [line for line in path.read_text().splitlines() if not line.startswith(games)]
    path.write_text("\n".join([*lines, "env.highest = 500", "eval.every = 2", "eval.tasks = 4"]))
    return path


def test_every_command_takes_it(recipe, capsys):
    train = ["train", str(recipe), "--name", "r"]
    assert cli.main([*train, "--dry-run"]) == 0
    assert cli.main([*train, "--train.iterations=1"]) == 0 and cli.main(train) == 0
    records = [json.loads(line) for line in Path("runs/r/metrics.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in records] == [0, 1] and "eval" in records[1]
    assert json.loads(Path("runs/r/config.json").read_text())["env.highest"] == 500
    assert cli.main(["eval", "runs/r", "--tasks", "4", "--label", "after"]) == 0
    assert cli.main(["play", "runs/r", "--pause", "0"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "runs/r"]) == 0
    assert ":make (highest 500, fails_after 0, fails_with 6)" in Path("runs/r/report.html").read_text()
    assert cli.main([*train, "--env.highest=501"]) == 2
    assert "holds a run with env.highest = 500, now it is 501" in capsys.readouterr().err


# What the check at the start and the evaluation before training call is less than sixty steps; a training
# iteration makes six at least, an evaluation four.
@pytest.mark.parametrize(("boards", "where"), [(6, "iteration "), (4, "evaluation after iteration ")])
def test_one_that_fails_late_ends_with_what_was_learnt(recipe, boards, where, capsys):
    settings = ["--eval.every=1", "--train.save-every=100", "--env.fails-after=60"]
    settings += [f"--env.fails-with={boards}", "--train.iterations=30"]
    assert cli.main(["train", str(recipe), "--name", "r", *settings]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "Traceback" not in out + err
    assert where in err and f"{boards} of {boards} trials failed, the first is trial" in err
    assert "step() raised ConnectionError: the server has gone (my_hunt_" in err
    (saved,) = Path("runs/r/checkpoints").iterdir()
    assert int(saved.name) == len(Path("runs/r/metrics.jsonl").read_text().splitlines()) > 0
