"""Whose a folder is, who writes in it, and what --overwrite may remove."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lamer_fast import files
from lamer_fast.config import Config, LearnConfig, ModelConfig, TrainConfig
from lamer_fast.config.resolve import RECIPES
from lamer_fast.files import CannotWrite
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.lock import MARK, FolderLock
from lamer_fast.run.whose import FIRST_KEYS, is_run

CONFIG = Config(name="r")


def begin(runs: Path, config: Config = CONFIG, **options) -> Path:
    """A run that begins, computes an iteration, and ends."""
    with RunFolder(config, runs, **options) as folder:
        folder.start(0)
        folder.write_metrics({"iteration": 0, "seconds": 1.0})
        folder.write_trials(0, [{"trial": 0}])
        folder.sync()
    return folder.path


def refused(runs: Path, config: Config = CONFIG, **options) -> str:
    """The message of a start that is refused; what is there must be as before."""
    before = content(runs)
    with pytest.raises((ValueError, CannotWrite)) as error, RunFolder(config, runs, **options):
        pass
    assert content(runs) == before
    return str(error.value)


def content(folder: Path) -> dict[str, object]:
    def what(path: Path) -> object:
        if path.is_symlink():
            return os.readlink(path)
        return None if path.is_dir() else path.read_bytes()

    return {str(path): what(path) for path in folder.rglob("*")} if folder.is_dir() else {}


def test_a_start_that_goes_no_further_leaves_nothing(tmp_path):
    runs = tmp_path / "deep" / "runs"
    with RunFolder(CONFIG, runs):
        assert (runs / "r" / MARK).is_file()
    assert not list(tmp_path.iterdir())


def test_the_second_start_names_the_first(tmp_path):
    begin(tmp_path)
    with RunFolder(CONFIG, tmp_path):
        holder = json.loads((tmp_path / "r" / MARK).read_text())
        for overwrite in (False, True):
            with pytest.raises(
                ValueError, match=f"in use by process {os.getpid()} on {holder['host']} since"
            ):
                RunFolder(CONFIG, tmp_path, overwrite=overwrite)
    begin(tmp_path)


def test_two_that_looked_at_once_do_not_both_begin(tmp_path):
    first, second = RunFolder(CONFIG, tmp_path), RunFolder(CONFIG, tmp_path, overwrite=True)
    with first:
        first.start(0)
        with pytest.raises(ValueError, match="in use"):
            second.__enter__()
    assert (tmp_path / "r" / "config.json").is_file()


HOLD = """
import os, sys, time
from pathlib import Path
from lamer_fast.run.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(60)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("fork", [[], ["fork"]])
def test_kill_9_releases_the_lock(tmp_path, fork):
    """Also when a forked worker of the killed process lives on."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", HOLD, str(tmp_path), *fork]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by process {process.pid}"):
            FolderLock(tmp_path)
        process.kill()
        process.wait()
        FolderLock(tmp_path).release()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, caplog):
    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    begin(tmp_path)
    assert "file system without locks (No locks available)" in caplog.text
    begin(tmp_path)  # the last one ended
    assert "did not end" not in caplog.text


def test_a_user_s_model_under_a_run_s_name_is_left_alone(tmp_path):
    shutil.copytree(RECIPES / "minesweeper-tiny-base", tmp_path / "r")
    for overwrite in (False, True):
        assert "is not the folder of a run" in refused(tmp_path, overwrite=overwrite)


def test_so_is_anything_else(tmp_path, monkeypatch):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.json").write_text("[1]")
    assert "is not the folder of a run" in refused(tmp_path, overwrite=True)
    (tmp_path / "r" / "config.json").write_bytes(b"\xff")
    assert "is not the folder of a run" in refused(tmp_path, overwrite=True)
    shutil.rmtree(tmp_path / "r")
    (tmp_path / "r").write_text("a file")
    for overwrite in (False, True):
        assert "r is no folder" in refused(tmp_path, overwrite=overwrite)
        assert "r is no folder" in refused(tmp_path / "r", overwrite=overwrite)
    monkeypatch.chdir(tmp_path)
    assert "r is no folder" in refused(Path())


def test_runs_may_be_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert begin(Path()) == Path("r") and is_run(tmp_path / "r")
    begin(Path(), overwrite=True)
    monkeypatch.chdir("r")
    for runs in (Path(), Path("trials"), Path("model/x")):
        assert "lies in the folder of a run" in refused(runs)


def test_a_run_of_the_first_version_is_known_by_its_settings(tmp_path):
    path = begin(tmp_path)
    (path / MARK).unlink()
    assert is_run(path)
    begin(tmp_path, overwrite=True)
    (path / MARK).unlink()
    saved = json.loads((path / "config.json").read_text())
    for key in FIRST_KEYS:
        (path / "config.json").write_text(json.dumps({k: v for k, v in saved.items() if k != key}))
        assert not is_run(path)


def test_a_setting_younger_than_the_run_has_its_default(tmp_path):
    path = begin(tmp_path)
    saved = json.loads((path / "config.json").read_text())
    del saved["learn.beta1"]
    (path / "config.json").write_text(json.dumps(saved))
    other = replace(CONFIG, learn=LearnConfig(beta1=0.5))
    assert "learn.beta1 = 0.9, now it is 0.5" in refused(tmp_path, other)
    begin(tmp_path)


def test_overwrite_leaves_what_no_run_wrote(tmp_path):
    path = begin(tmp_path)
    (path / "thesis.tex").write_text("")
    assert "holds 'thesis.tex', which no run wrote" in refused(tmp_path, overwrite=True)
    begin(tmp_path)  # without --overwrite it disturbs nobody


def test_overwrite_leaves_the_model_that_the_new_run_starts_from(tmp_path):
    path = begin(tmp_path)
    (path / "model").mkdir()
    (tmp_path / "link").symlink_to(path / "model")
    for model in (path / "model", tmp_path / "link"):
        config = replace(CONFIG, model=ModelConfig(path=str(model)))
        assert "which --overwrite would remove" in refused(tmp_path, config, overwrite=True)


def test_overwrite_removes_last(tmp_path):
    path = begin(tmp_path)
    before = content(path)
    with RunFolder(CONFIG, tmp_path, overwrite=True) as folder:
        assert {k: v for k, v in content(path).items() if MARK not in k} == {
            k: v for k, v in before.items() if MARK not in k
        }
        folder.start(0)
        assert not list((path / "trials").iterdir()) and os.listdir(tmp_path) == ["r"]
        with pytest.raises(ValueError, match="in use"):
            RunFolder(CONFIG, tmp_path)


def test_an_overwrite_that_fails_leaves_the_old_run(tmp_path, monkeypatch):
    path = begin(tmp_path)
    before = content(path)

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunFolder(CONFIG, tmp_path, overwrite=True) as folder:
        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(CannotWrite, match="No space left"):
            folder.start(0)
    assert content(path) == before and os.listdir(tmp_path) == ["r"]


def test_an_overwrite_that_was_killed_is_undone(tmp_path):
    path = begin(tmp_path)
    path.rename(tmp_path / ".old-r")
    lock = FolderLock(tmp_path / ".old-r")
    assert "in use" in refused(tmp_path)
    lock.release()
    with RunFolder(CONFIG, tmp_path):
        assert (path / "metrics.jsonl").is_file()


def test_a_linked_folder_stays_on_its_disk(tmp_path):
    runs, big = tmp_path / "runs", tmp_path / "big"
    runs.mkdir()
    (runs / "r").symlink_to(big / "r")
    assert "is a link to" in refused(runs)
    (big / "r").mkdir(parents=True)
    for overwrite in (False, True):
        assert begin(runs, overwrite=overwrite) == big / "r"
    assert (runs / "r").is_symlink() and is_run(big / "r") and os.listdir(big) == ["r"]
    with RunFolder(CONFIG, runs), pytest.raises(ValueError, match="in use"):
        RunFolder(CONFIG, big)


def test_other_settings_are_refused_and_cosine_says_why(tmp_path):
    schedule = replace(CONFIG, learn=LearnConfig(schedule="cosine"), train=TrainConfig(iterations=2))
    begin(tmp_path, schedule)
    more = replace(schedule, train=TrainConfig(iterations=4))
    message = refused(tmp_path, more)
    assert "train.iterations = 2, now it is 4: learn.schedule is 'cosine'" in message and "r/model" in message
    assert "train.seed = 0, now it is 1" in refused(
        tmp_path, replace(schedule, train=TrainConfig(iterations=2, seed=1))
    )
    (tmp_path / "r" / "config.json").write_text("{")
    assert "config.json is damaged" in refused(tmp_path, schedule)


def test_a_name_too_long_for_the_file_system(tmp_path):
    message = refused(tmp_path, replace(CONFIG, name="x" * 300))
    assert "has 300 letters, at most 250 are possible" in message


def as_somebody_else(call) -> str:
    """What `call` returns in a process of a user without rights, since root may write everywhere."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writing, call().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as file:
        return file.read()


def test_a_folder_of_another_user():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        runs = Path(folder)
        begin(runs)
        for path in (runs, *runs.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        old = as_somebody_else(lambda: refused(runs))
        new = as_somebody_else(lambda: refused(runs, replace(CONFIG, name="new")))
        for path in (runs, *runs.rglob("*")):
            path.chmod(0o755)
    assert f"cannot write {runs / 'r'} (" in old and "r is not writable; " in old
    assert f"cannot write {runs / 'new'} (" in new and f"{folder} is not writable; " in new
    assert "belongs to" in old and "are free" in old


def test_room_is_asked_for_before(tmp_path, monkeypatch):
    path = begin(tmp_path)
    size = files.folder_bytes(path)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with RunFolder(CONFIG, tmp_path) as folder:
        folder.check_space(1000, "3 checkpoints")
        with pytest.raises(ValueError, match=r"r: 3 checkpoints need 1001 B, 1000 B are free; make room"):
            folder.check_space(1001, "3 checkpoints")
    with RunFolder(CONFIG, tmp_path, overwrite=True) as folder:
        folder.check_space(1000 + size, "what --overwrite frees is free too")


def test_records_are_cut_back_and_nothing_else(tmp_path):
    with RunFolder(CONFIG, tmp_path) as folder:
        folder.start(0)
        for iteration in range(4):
            folder.write_metrics({"iteration": iteration})
            folder.write_trials(iteration, [])
    trials = folder.path / "trials"
    (trials / "analysis.py").write_text("")
    (trials / "7").mkdir()
    for half in (".new-000003", ".trash-000001"):
        (folder.checkpoints / half).mkdir(parents=True)
    (folder.path / ".new-model").mkdir()
    (folder.path / ".new-7-report.html").write_text("of a report that is just being written")
    with folder.metrics.open("a") as file:
        file.write('{"iteration": 4, "succ')
    with RunFolder(CONFIG, tmp_path) as folder:
        folder.start(2)
    assert len(folder.metrics.read_text().splitlines()) == 2
    assert not list(folder.checkpoints.iterdir()) and not (folder.path / ".new-model").exists()
    assert (folder.path / ".new-7-report.html").exists()
    assert sorted(p.name for p in trials.iterdir()) == [
        "000000.jsonl.gz", "000001.jsonl.gz", "7", "analysis.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b'{"iteration": 0}\n',
            "has 1 records, the checkpoint has 2 iterations; --from-checkpoint N takes one",
        ),
        (b'{"iteration": 0}\n{"iter\n', "line 2 is damaged"),
        (b'{"iteration": 0}\n\xff\xfe\n', "line 2 is damaged"),
        (b'{"iteration": 0}\n[]\n', "line 2 is damaged"),
        (b'{"iteration": 0}\n{"iteration": 5}\n', "or not of iteration 1"),
        (b'{"iteration": 0}\n{"iteration": 1}', "line 2 is damaged"),
    ],
)
def test_records_that_a_checkpoint_counts_must_be_there(tmp_path, text, message):
    path = begin(tmp_path)
    (path / "metrics.jsonl").write_bytes(text)
    with RunFolder(CONFIG, tmp_path) as folder, pytest.raises(ValueError, match=message):
        folder.start(2)


def test_a_full_disk_ends_the_event_files_in_one_line(tmp_path):
    """Their writer is a thread of its own: its traceback would come on top, its queue must not hang."""
    program = f"""
import resource
from pathlib import Path
from lamer_fast.config import Config
from lamer_fast.files import CannotWrite
from lamer_fast.run.folder import RunFolder
with RunFolder(Config(name="r"), Path({str(tmp_path)!r})) as folder:
    folder.start(0)
    limit = max(p.stat().st_size for p in (folder.path / "tensorboard").iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        folder.write_metrics({{"iteration": 0}} | {{"x" * n: n for n in range(1, 4)}})
    except CannotWrite as error:
        print(error)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120
    )
    assert "tensorboard (" in done.stdout and "File too large" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
