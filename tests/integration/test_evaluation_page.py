"""The commands of docs/evaluation.md, run as they stand, on few boards."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from lamer_fast import cli
from lamer_fast.config import resolve as recipe
from lamer_fast.model.path import SHIPPED
from tests.endpoint_server import answer, serving

pytestmark = pytest.mark.long
PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
COMMANDS = re.findall(r"^lamer-fast (eval .*)$", PAGE, re.MULTILINE)
LINES = re.findall(r"^\{.*\}$", PAGE, re.MULTILINE)[::4]  # one of ours, one of verl's
FEW = ["--tasks", "3", "--rollout.max-turns", "2"]


def test_every_command_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "minesweeper-tiny"
    run.mkdir(parents=True)
    (run / "config.json").write_text(recipe.to_json(recipe.resolve("minesweeper-tiny")))
    shutil.copytree(SHIPPED["minesweeper-tiny-base"], run / "model")
    for name, line in zip(("rollouts.jsonl", "40.jsonl"), LINES, strict=True):
        (tmp_path / name).write_text("".join(line.replace("5", str(i)) + "\n" for i in range(4)))
    with serving(lambda body, n: answer("<action>(1, 1)</action>")) as (_, url):
        played = 0
        for command in COMMANDS:
            words = shlex.split(command.replace("http://127.0.0.1:8000/v1", url))
            if "--endpoint" in words:
                pytest.importorskip("openai", reason="needs the package openai")
            few = [] if "--from-dump" in words else FEW
            assert cli.main([*words, *few]) == 0, command
            played += 1
    out = capsys.readouterr().out
    assert played == len(COMMANDS) >= 5 and out.count("success@3") >= played
