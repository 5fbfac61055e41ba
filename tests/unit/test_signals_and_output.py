"""Signals, a reader that goes away, a phase that hangs: in processes of their own, without torch."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def start(program: str, **options) -> subprocess.Popen:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT, **options)


LOOP = """
import time
from lamer_fast.run.stop import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop.asked or WAIT:
        time.sleep(0.01)
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_one_signal_asks(number):
    process = start(LOOP.replace("WAIT", "False"))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and out == "stopped\n" and "stopping after this iteration" in err


def test_only_a_second_sigint_interrupts():
    process = start(LOOP.replace("WAIT", "True"))
    process.stdout.readline()
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
        assert "stopping" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]


def test_nohup_stays_in_force():
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + LOOP.replace("WAIT", "False")
    process = start(program)
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("ends_with", ["KeyboardInterrupt", "ImportError('half a module')"])
def test_an_interrupt_before_the_run_is_one_line(ends_with):
    """What an import that was cut short raises is not always KeyboardInterrupt."""
    program = f"""
import sys, time
from lamer_fast.cli import guarded
def call():
    print("importing", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise {ends_with}
sys.exit(guarded("train", call))
"""
    process = start(program)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "lamer-fast train: interrupted\n"
    assert process.returncode == 130


TALK = """
import sys, time
from lamer_fast.run.output import open_standard_files, without_reader
open_standard_files()
with without_reader():
    for i in range(50):
        print("line", i, "x" * 5000, flush=True)
        print("error", i, file=sys.stderr, flush=True)
    done = open(sys.argv[1], "w")
    assert done.fileno() > 2
    print("done", file=done)
"""


def talk(tmp_path, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", TALK, str(tmp_path / "done")]
    return subprocess.Popen(command, env=ENVIRONMENT, **options)


def test_a_pipe_may_be_closed(tmp_path):
    process = talk(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith(b"line 0")
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(timeout=30) == 0 and (tmp_path / "done").read_text() == "done\n"
    assert b"error 49" in error and b"Traceback" not in error and b"Exception ignored" not in error


def test_a_terminal_may_be_dropped(tmp_path):
    main, terminal = pty.openpty()
    process = talk(tmp_path, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.read(main, 10)
    os.close(main)
    assert process.wait(timeout=30) == 0 and (tmp_path / "done").read_text() == "done\n"


def test_a_cell_hears_its_study_also_where_a_shell_has_it_ignore_interrupts():
    """As `sh -c 'lamer-fast study main &'` does; no StopRequest is there yet, or any more."""
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + (
        "import time; from lamer_fast.study.cell import end_with_parent\n"
        "end_with_parent(); print('ready', flush=True); time.sleep(60)"
    )
    process = start(program)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT and error.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "<&- >&- 2>&-"])
def test_output_may_be_closed_or_full_from_the_start(tmp_path, closed):
    command = ["sh", "-c", f'"$0" -c "$1" "$2" {closed}', sys.executable, TALK, str(tmp_path / "done")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done").read_text() == "done\n"


def test_other_commands_end_with_their_reader():
    program = """
import sys
from lamer_fast.cli import guarded
def call():
    for i in range(100000):  # more than a pipe and any buffer hold
        print(i)
    return 0
sys.exit(guarded("report", call))
"""
    process = start(program, text=False)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(timeout=30) == 1


@pytest.mark.parametrize(
    ("hang", "named"),
    [
        ("time.sleep(60)", True),
        ("re.match('(a+)+$', 'a' * 64 + 'b')", False),  # holds the interpreter's lock: stacks must do
    ],
)
def test_a_phase_over_its_limit_is_named(hang, named):
    program = f"""
import re, time
from lamer_fast.run import clock
clock.GRACE_S = 1.0
def stuck_environment():
    {hang}
c = clock.Clock(watchdog_s=1.0)
with c.phase("fine"):
    pass
with c.phase("sample"):
    stuck_environment()
"""
    process = start(program)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "in stuck_environment" in error
    assert ("phase 'sample' has taken longer than train.watchdog_s = 1 s" in error) == named
