"""The commands of a page one after the other, each with less to do; those that need more are left out."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.page_commands import PAGES, PLACEHOLDERS, ROOT, commands, split

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
LESS = {  # what stands behind the flags of the page, and wins over them
    "demo": "--train.iterations 1 --tasks 4",
    "train": "--train.iterations 1 --train.num-threads 1",
    "eval": "--tasks 4",
    "play": "--pause 0",
    "warmstart": "--updates 3 --cpu-seconds 0 --warmup-updates 1 --decay-updates 1 --eval-every 3",
}
SHIM = """#!/bin/bash
declare -A less=({less})
exec {python} -m lamer_fast "$@" ${{less[$1]}} <<< ":quit"
"""
SESSIONS = {page: [found for found in commands(page) if found.slow] for page in PAGES}


def script(page):
    lines = []
    for found in SESSIONS[page]:
        words = split(found.text)[0]
        text = found.text
        for name, value in PLACEHOLDERS.items():
            text = text.replace(f" {name} ", f" {value} ")
        lines.append(f"{text.partition('#')[0].rstrip()} {LESS['train']}" if words[0] == "torchrun" else text)
    return "set -ex\n" + "\n".join(lines) + "\n"


@pytest.fixture
def shell(tmp_path):
    """A folder that looks like the repository, and a PATH on which `lamer-fast` does less."""
    programs = tmp_path / "bin"
    programs.mkdir()
    less = " ".join(f"[{name}]='{flags}'" for name, flags in LESS.items())
    (programs / "lamer-fast").write_text(SHIM.format(less=less, python=sys.executable))
    (programs / "lamer-fast").chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()
    for name in ("kernels", "lamer_fast", "pyproject.toml"):
        (here / name).symlink_to(ROOT / name)
    for name in ("benchmarks", "examples"):  # commands write into these
        shutil.copytree(ROOT / name, here / name)
    path = f"{programs}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "HF_HUB_OFFLINE": "1"}

    def run(text, folder="."):
        done = subprocess.run(
            ["bash", "-c", text], cwd=here / folder, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]

    return run


@pytest.mark.parametrize("page", [page for page, found in SESSIONS.items() if found])
def test_the_commands_of_a_page_run(page, shell):
    text = script(page)
    before, used, _ = text.partition("runs/minesweeper-tiny")
    if used and "train minesweeper-tiny" not in before:
        shell("lamer-fast train minesweeper-tiny")
    shell(text, os.path.dirname(page) if page.startswith("examples/") else ".")
