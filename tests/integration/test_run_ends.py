"""How runs begin and end: refused, at once, interrupted, on a full disk, without a reader, finished."""

import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.integration.test_resume import num_lines, outcome, start, wait_for_iterations
from tests.integration.tiny_run import recipe_file, train_main
from tests.unit.test_run_folder import content

pytestmark = pytest.mark.long
SHORT = {"train__iterations": 3, "train__save_every": 1, "train__keep_checkpoints": 3}
SLOW = {
    "train__iterations": 50, "train__save_every": 1, "rollout__groups": 4, "rollout__max_turns": 8,
    "rollout__max_reply_tokens": 100, "rollout__max_sequence_tokens": 4096,
}  # fmt: skip


@pytest.fixture(scope="module")
def three(tmp_path_factory, tiny_folder) -> Path:
    """A finished run of three iterations."""
    folder = tmp_path_factory.mktemp("three")
    assert train_main(recipe_file(folder, tiny_folder, **SHORT), folder, "--name", "run") == 0
    return folder


@pytest.fixture
def runs(three, tmp_path) -> Path:
    shutil.copytree(three / "run", tmp_path / "run")
    return tmp_path


def test_every_refusal_comes_before_a_change(runs, tiny_folder, tmp_path, capsys):
    recipe = recipe_file(tmp_path, tiny_folder, **SHORT)
    no_words = tmp_path / "no-words"
    shutil.copytree(tiny_folder, no_words)
    (no_words / "tokenizer.json").write_text("{")
    before = content(runs)
    wrong = [
        ("--model.path", "mdoel"),
        ("--model.path", str(no_words)),
        ("--rollout.groups", "0"),
        ("--learn.offload-optimizer", "rollout"),
        ("--rollout.max-sequence-tokens", "40"),
    ]
    if not torch.cuda.is_available():
        wrong.append(("--train.device", "cuda"))
    for setting in wrong:
        for name, overwrite in (("run", ["--overwrite"]), ("new", ["--overwrite"]), ("new", [])):
            try:
                status = train_main(recipe, runs, "--name", name, *overwrite, *setting)
            except Exception:  # a garbled tokenizer; its message is another's business
                status = 2
            assert status == 2 and content(runs) == before, (setting, name)
    model = ("--name", tiny_folder.name, "--runs", str(tiny_folder.parent))
    for flags in ([], ["--dry-run"]):
        assert train_main(recipe, runs, *model, "--overwrite", *flags) == 2
        assert "is not the folder of a run" in capsys.readouterr().err
    assert train_main(recipe, runs, "--name", "run", "--overwrite", "--from-checkpoint", "1") == 2
    assert "--from-checkpoint 1 needs one" in capsys.readouterr().err and content(runs) == before


def test_no_room_is_said_before_the_first_iteration(runs, tiny_folder, tmp_path, capsys, monkeypatch):
    recipe = recipe_file(tmp_path, tiny_folder, **SHORT)
    usage = shutil.disk_usage(runs)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    before = content(runs)
    for flags in ([], ["--dry-run"]):
        assert train_main(recipe, runs, "--name", "new", *flags) == 2
        error = capsys.readouterr().err
        assert "3 checkpoints of" in error and "97.7 KiB are free" in error and error.count("\n") == 1
    assert content(runs) == before


def test_a_finished_run_says_so(runs, tiny_folder, tmp_path, three, capsys):
    recipe = recipe_file(tmp_path, tiny_folder, **SHORT)
    assert train_main(recipe, runs, "--name", "run") == 0
    said = capsys.readouterr().out
    assert "is finished: 3 iterations are done, train.iterations = 3" in said
    assert "--train.iterations above 3" in said and "--overwrite" in said
    assert outcome(runs / "run") == outcome(three / "run")

    # the flag cuts back there too, so that what is there and what is said agree
    two = ("--train.iterations", "2", "--from-checkpoint", "2")
    assert train_main(recipe, runs, "--name", "run", *two) == 0
    assert "is finished: 2 iterations are done" in capsys.readouterr().out
    assert train_main(recipe, runs, "--name", "run") == 0
    assert outcome(runs / "run") == outcome(three / "run")


def test_a_damaged_checkpoint_names_the_flag_and_the_flag_works(runs, tiny_folder, tmp_path, three, capsys):
    recipe = recipe_file(tmp_path, tiny_folder, **SHORT)
    weights = runs / "run" / "checkpoints" / "000003" / "masters.safetensors"
    data = bytearray(weights.read_bytes())
    data[-8:-6] = b"\x01\x02"
    weights.write_bytes(data)
    shutil.copytree(runs / "run" / "checkpoints" / "000002", runs / "run" / "checkpoints" / "000009")
    assert train_main(recipe, runs, "--name", "run") == 2
    assert "--from-checkpoint 2" in capsys.readouterr().err
    assert train_main(recipe, runs, "--name", "run", "--from-checkpoint", "3") == 2
    assert "masters.safetensors is damaged" in capsys.readouterr().err
    assert train_main(recipe, runs, "--name", "run", "--from-checkpoint", "1") == 0
    assert outcome(runs / "run") == outcome(three / "run")
    assert sorted(p.name for p in (runs / "run" / "checkpoints").iterdir()) == ["000001", "000002", "000003"]


def test_a_full_disk_ends_in_one_line_and_loses_no_checkpoint(runs, tiny_folder, tmp_path, three, capfd):
    recipe = recipe_file(tmp_path, tiny_folder, **SHORT)
    checkpoints = runs / "run" / "checkpoints"
    for later in ("000002", "000003"):
        shutil.rmtree(checkpoints / later)
    before = content(checkpoints)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, limits[1]))
    try:
        assert train_main(recipe, runs, "--name", "run") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capfd.readouterr().err
    assert "checkpoints/000002 (needs" in error and "are free): " in error and "File too large" in error
    assert "1 iteration since checkpoint 1 is lost" in error and error.count("\n") == 1
    assert content(checkpoints) == before
    assert train_main(recipe, runs, "--name", "run") == 0
    assert outcome(runs / "run") == outcome(three / "run")


def test_a_live_run_is_left_alone_and_two_interrupts_end_it(tmp_path, tiny_folder, capsys):
    recipe = recipe_file(tmp_path, tiny_folder, **SLOW)
    process = start(recipe, tmp_path, stderr=subprocess.PIPE, text=True)
    wait_for_iterations(process, tmp_path / "run" / "metrics.jsonl", 2)  # the first is saved
    for flags in ([], ["--overwrite"]):
        assert train_main(recipe, tmp_path, "--name", "run", *flags) == 2
        error = capsys.readouterr().err
        assert f"in use by process {process.pid} on" in error and error.count("\n") == 1
    process.send_signal(signal.SIGINT)
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert "a second Ctrl-C stops at once" in first
    assert rest.startswith("interrupted, ") and " since checkpoint " in rest and rest.count("\n") == 1
    assert 0 < num_lines(tmp_path / "run" / "metrics.jsonl") < 50


def test_a_dropped_terminal_ends_a_run_as_a_signal_does(tmp_path, tiny_folder):
    """A live table on a terminal whose ssh is gone: SIGHUP, and nothing can be written there any more."""
    many = {"train__iterations": 1000, "train__save_every": 1000}  # it has not ended before it is dropped
    recipe = recipe_file(tmp_path, tiny_folder, **SLOW | many)
    child, terminal = pty.fork()
    if child == 0:
        path = os.pathsep.join(p for p in sys.path if p)
        environment = os.environ | {"PYTHONPATH": path, "TERM": "xterm"}
        command = [sys.executable, "-m", "lamer_fast", "train", str(recipe), "--name", "run"]
        os.execve(sys.executable, [*command, "--runs", str(tmp_path)], environment)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while num_lines(metrics) < 1:
        assert os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert int(checkpoint.name) == num_lines(metrics) < 1000


def test_an_interrupt_during_imports_is_one_line(tmp_path, tiny_folder):
    process = start(recipe_file(tmp_path, tiny_folder), tmp_path, stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and error == "lamer-fast train: interrupted\n"
    assert os.listdir(tmp_path) == ["tiny.toml"]


def test_training_goes_on_without_a_reader(tmp_path, tiny_folder):
    process = start(
        recipe_file(tmp_path, tiny_folder, **SHORT), tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(timeout=120) == 0 and not error, error
    assert (tmp_path / "run" / "model" / "config.json").is_file()
