"""`make setup` and `make demo`, with a stand-in for Python that prints as much as setuptools does."""

import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from lamer_fast.cli import COMMANDS, demo

ROOT = Path(__file__).parents[2]
STAND_IN = """#!/bin/sh
echo "SetuptoolsDeprecationWarning: a wall"; echo "of warnings" >&2
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
case "$*" in
  *"lamer_fast demo"*) echo "demo: $*" ;;
  *"$FAILS"*) echo "error: the whole reason"; exit 3 ;;
esac
"""


def make(tmp_path, target, fails="nothing", *variables):
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    given = [f"PYTHON={python}", f"VENV={tmp_path / 'venv'}", *variables]
    # the first line of setup is Python's own check, whose output counts
    return subprocess.run(
        ["make", "-s", "--no-print-directory", target, *given],
        cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "FAILS": fails},
    )  # fmt: skip


def said(done):
    return [line for line in done.stdout.splitlines() if "warning" not in line.lower()]


def test_setup_says_what_it_does_in_five_lines(tmp_path):
    done = make(tmp_path, "setup")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in said(done)] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert done.stdout.count("a wall") == 1, "of the check of the version alone"
    assert make(tmp_path, "setup").stdout == "", "nothing is left to do"


@pytest.mark.parametrize(("fails", "lines"), [("-m venv", 1), ("torch==", 2), ("pybind11", 3), ("-e", 4)])
def test_a_step_that_fails_shows_everything_and_is_made_again(tmp_path, fails, lines):
    done = make(tmp_path, "setup", fails)
    assert done.returncode != 0 and len(said(done)) == lines
    assert "error: the whole reason" in done.stderr and "a wall" in done.stderr
    assert len(said(make(tmp_path, "setup"))) == 5


def test_demo_takes_a_game(tmp_path):
    assert said(make(tmp_path, "demo"))[-2:] == [
        "build the C++ games",
        "demo: -m lamer_fast demo minesweeper",
    ]
    done = make(tmp_path, "demo", "nothing", "GAME=sokoban")
    assert said(done)[-1] == "demo: -m lamer_fast demo sokoban"


def test_the_end_of_the_demo_names_three_commands_that_parse():
    lines = demo.next_commands("minesweeper-tiny", Path("runs/minesweeper-tiny"))
    assert len(lines) == 3 and max(map(len, lines)) < 140
    for line in lines:
        words = shlex.split(line.removeprefix(demo.program()), comments=True)
        assert import_module(COMMANDS[words[0]][0]).COMMAND.parse(words[1:])
