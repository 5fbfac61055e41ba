"""What the library says: by `logging` to whoever calls it, printed by the commands alone."""

import ast
import io
import logging
import sys
from pathlib import Path

import pytest

import lamer_fast
from lamer_fast import cli
from lamer_fast.say import log, printed

ROOT = Path(lamer_fast.__file__).parent
# what is made to be seen: the commands, the live tables, and modules that are programs of their own
PRINT = {
    "doctor/command.py",
    "doctor/one_rank.py",
    "run/display.py",
    "run/job.py",
    "warmstart/supervised.py",
    "study/cell.py",
    "study/progress.py",
    "study/gradient/command.py",
    "launch.py",
}
PRINT |= {"envs/adapters/alfworld/generate.py", "say.py"}


def prints(path):
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


def test_library_modules_do_not_print():
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if prints(path)}
    assert {name for name in found if not name.startswith("cli/")} <= PRINT


def test_a_library_user_gets_records_and_no_output(caplog, capsys):
    with caplog.at_level(logging.INFO, "lamer_fast"):
        log.warning("50 % of it")
        log.info("as well")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "50 % of it"),
        ("INFO", "as well"),
    ]
    assert "".join(capsys.readouterr()) == ""


def test_commands_print_notes_and_errors_once_and_leave_the_logger_as_it_was(caplog, capsys):
    before = log.level, log.propagate, log.handlers[:]
    with printed(), printed():
        log.warning("some")
        log.info("how it is")
        log.error("why it ended")
    out, err = capsys.readouterr()
    assert out == "note: some\nhow it is\n" and err == "why it ended\n"
    assert (log.level, log.propagate, log.handlers) == before and not caplog.records


def test_a_command_prints_where_the_streams_are_now(monkeypatch):
    seen = io.StringIO()

    def call():
        monkeypatch.setattr(sys, "stdout", seen)
        log.warning("later")
        return 0

    assert cli.guarded("train", call) == 0
    assert seen.getvalue() == "note: later\n"


def test_a_reader_that_has_gone_ends_a_command_quietly(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with printed(), pytest.raises(BrokenPipeError):
        monkeypatch.setattr(sys, "stdout", Gone())
        log.warning("to nobody")
