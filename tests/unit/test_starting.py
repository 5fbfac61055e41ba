"""What a user sees while torch loads for seconds: a line on a terminal, nothing where a program reads."""

import os
import pty
import subprocess
import sys

import pytest

from lamer_fast.cli import COMMANDS

REACHED = 77  # exit status of a process that wants torch
PROGRAM = f"""
import os, sys
class NoTorch:
    def find_spec(self, name, *_):
        if name == "torch":
            os._exit({REACHED})
from lamer_fast import cli
sys.meta_path.insert(0, NoTorch())
sys.exit(cli.main(sys.argv[1:]))
"""
TINY = "minesweeper-tiny"
SAID = {
    f"train {TINY} --name mine": "training mine",
    f"train {TINY} --train.processes 2": f"training {TINY}",
    f"train {TINY} --dry-run": f"estimating {TINY}",
    f"eval {TINY} --tasks 4": f"evaluating {TINY}",
    f"eval {TINY} --tasks 4 --player random": f"evaluating {TINY}",
    "study main --dry-run": "estimating main",
    "study gradient": "the study gradient",
    "demo": f"the demo of {TINY}",
    "warmstart minesweeper-tiny-base --out base": "making a base model in base",
    f"play {TINY}": f"playing a trial of {TINY}",
    f"audit {TINY}": f"auditing {TINY}",
    "bench head": "measuring head",
    "doctor": "checking this machine",
}


def started(line, folder, **streams):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment.pop("TORCHELASTIC_RUN_ID", None)
    command = [sys.executable, "-c", PROGRAM, *line.split()]
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=120, **streams
    )


@pytest.mark.parametrize("line", SAID)
def test_a_command_says_what_it_starts_before_it_loads_torch(line, tmp_path):
    main, terminal = pty.openpty()
    done = started(line, tmp_path, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    said = os.read(main, 4096).decode()
    os.close(main)
    assert done.returncode == REACHED
    assert said == f"{SAID[line]}; loading torch ...\r\n" and done.stdout == b""


def test_nothing_of_it_is_in_a_pipe(tmp_path):
    main, terminal = pty.openpty()
    done = started(f"train {TINY}", tmp_path, stdout=terminal, stderr=subprocess.PIPE)
    os.close(terminal), os.close(main)
    assert (done.returncode, done.stderr) == (REACHED, b"")


def test_every_command_is_tried_here_or_loads_no_torch():
    without = {"runs", "report", "export", "envs", "completion"}
    assert COMMANDS.keys() - without == {line.split()[0] for line in SAID}
