"""How threads of the model wait for each other, as the OpenMP runtime says (its cost: bench_threads.py)."""

import os
import re
import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.path[:0] = {path!r}
from lamer_fast import cli
cli.main(["--version"])
import torch
"""


def spins(**environment: str) -> int:
    """Rounds that a thread of a command spins before it sleeps."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(path=sys.path)],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"} | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if found is None:
        pytest.skip("this torch is built with another OpenMP runtime than GNU's")
    return int(found[1])


def test_threads_of_a_command_sleep_while_they_wait_unless_told_otherwise():
    assert spins() == 0
    assert spins(OMP_WAIT_POLICY="active") > 0
