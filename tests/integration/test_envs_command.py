"""`lamer-fast envs`: what there is; and `envs check`, which survives what it finds."""

import itertools
import subprocess
import sys

import pytest

from lamer_fast import cli
from lamer_fast.envs.registry import GAMES, option_classes
from lamer_fast.fields import settings_of

pytestmark = pytest.mark.long
HEAD = """
import os, signal, time
from dataclasses import dataclass
import numpy as np
from lamer_fast.envs.toy import NumberHunt

@dataclass(frozen=True)
class Options:
    highest: int = 200

class Hunt(NumberHunt):
{body}
def make(options: Options, num_envs: int{split}):
    return Hunt(num_envs, options.highest)
"""
numbers = itertools.count()


@pytest.fixture
def hunt(tmp_path, monkeypatch):
    """Writes an environment and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])

    def write(body="    pass\n", split=""):
        name = f"checked_env_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(HEAD.format(body=body, split=split))
        return f"{name}:make"

    return write


def test_the_list_has_every_game_with_its_options(capsys):
    assert cli.main(["envs"]) == 0
    out = capsys.readouterr().out
    for game in GAMES:
        part = out[out.index(f"{game}: ") :]
        for key in settings_of(option_classes()[game]):
            assert key == "name" or f"  --env.{key.replace('_', '-')} " in part
    assert "splits train, valid, test" in out and "package.module:factory" in out


def test_one_environment_tells_its_tasks(hunt, capsys):
    assert cli.main(["envs", "minesweeper", "--env.height=4", "--env.width=4", "--env.num-mines=2"]) == 0
    assert "split test: 13 tasks; the panel of the first 13 is " in capsys.readouterr().out
    assert cli.main(["envs", hunt()]) == 0
    assert "split valid: tasks that cannot be counted; the panel of the first" in capsys.readouterr().out
    assert cli.main(["envs", "minesweeper", "--env.num-boxes=4"]) == 2
    assert "unknown key 'env.num_boxes', did you mean 'env.num_mines'?" in capsys.readouterr().err
    assert cli.main(["envs", "minesweeper", "--env.num-mines=35"]) == 2


GUESSES = "|".join(f"<action>{number}</action>" for number in range(1, 200))


def checked(name, capsys, *arguments):
    status = cli.main(["envs", "check", name, "--replies", GUESSES, *arguments])
    lines = capsys.readouterr().out.splitlines()
    return status, [line.removeprefix("wrong  ") for line in lines if line.startswith("wrong")], lines


@pytest.mark.parametrize("name", ["minesweeper", "own"])
def test_a_sound_one_is_right(name, hunt, capsys):
    status, wrong, lines = checked(hunt() if name == "own" else name, capsys)
    assert status == 0 and not wrong and lines[1].startswith("right")
    assert lines[-1].startswith("speed") and "turns/s on 8 boards" in lines[-1]


STEP = "    def step(self, replies, env_idx):\n        {}\n        return super().step(replies, env_idx)\n"
WRONG = {
    r"the reply '<action>a\x00b</action>': the process ended (SIGSEGV)": (
        STEP.format("any('a\\x00b' in r for r in replies) and os.kill(os.getpid(), signal.SIGSEGV)"), ""
    ),
    "two environments at once: no answer for 5 s": (
        "    made = 0\n    def __init__(self, *arguments):\n        super().__init__(*arguments)\n"
        "        Hunt.made += 1\n        Hunt.made == 2 and time.sleep(99)\n", ""
    ),
    "the same seeds and replies lead to another game in a new process": (
        "    def observe(self, i):\n        return [str(hash(t) % 97) for t in super().observe(i)]\n", ""
    ),
    "splits train and valid have tasks in common, the first is": ("    pass\n", ", split"),
    "raised ZeroDivisionError": ("    highest = 1 / 0\n", ""),
}  # fmt: skip


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_found_and_survived(sentence, hunt, capsys):
    body, split = WRONG[sentence]
    if "Zero" in sentence:
        assert cli.main(["envs", "check", hunt(body, split)]) == 2
        assert sentence in capsys.readouterr().err
        return
    status, wrong, _ = checked(hunt(body, split), capsys, "--timeout-s", "5")
    assert status == 1 and any(sentence in line for line in wrong), wrong


DATA = """
from lamer_fast.envs.native.minesweeper import Minesweeper


class Shelf(Minesweeper):
    def data(self, options, path):
        if path is None or not path.exists():
            raise ValueError(f"{path} is missing: fetch it from the shelf")
        yield f"{options.num_mines} mines, {len(path.read_bytes())} bytes"


ENTRY = Shelf()
"""


def test_the_files_of_an_environment_are_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = f"shelf_{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(DATA)
    (tmp_path / "games").write_text("12345")
    assert cli.main(["envs", "data", f"{name}:ENTRY", "games", "--env.num-mines=2"]) == 0
    assert capsys.readouterr().out == "2 mines, 5 bytes\n"
    assert cli.main(["envs", "data", f"{name}:ENTRY", "nothing"]) == 2
    assert "nothing is missing: fetch it from the shelf" in capsys.readouterr().err
    assert cli.main(["envs", "data", "minesweeper"]) == 2
    assert "minesweeper plays without files" in capsys.readouterr().err
    assert cli.main(["envs", "data"]) == 2 and "NAME is missing" in capsys.readouterr().err


@pytest.mark.parametrize("lacking", [["rapidfuzz"], ["Stemmer", "rapidfuzz"]])
def test_a_world_names_the_packages_that_are_missing(lacking, tmp_path):
    program = (
        "import sys\nfor name in sys.argv[2:]: sys.modules[name] = None\n"
        "from lamer_fast import cli; sys.exit(cli.main(['envs', 'webshop', '--env.cache', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cache"), *lacking]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (
        ran.returncode == 2
        and "rapidfuzz" in ran.stderr
        and "pip install 'lamer-fast[webshop]'" in ran.stderr
    )
    assert not (tmp_path / "cache").exists()
