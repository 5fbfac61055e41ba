"""Files and folders written whole or not at all, and what is said when the disk refuses."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lamer_fast import files
from lamer_fast.files import CannotWrite, recover, replace_file, replace_files, replace_folder, size_text


def test_a_replaced_file_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "notes.txt"
    replace_file(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CannotWrite, match=r"notes.txt \(needs 3 B, .* are free\): No space left on device"):
        replace_file(path, "new")
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["notes.txt"]


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_link_keeps_pointing_where_it_did(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "link.txt").symlink_to("big/file.txt")
    replace_file(tmp_path / "link.txt", b"content")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "big" / "file.txt").read_bytes() == b"content"


def one_file(text: str):
    return lambda folder: (folder / "file").write_text(text)


def test_a_replaced_folder_is_the_old_or_the_new_one(tmp_path):
    target = tmp_path / "folder"
    replace_folder(target, one_file("first"))
    replace_folder(target, one_file("second"))
    assert (target / "file").read_text() == "second"

    def fails(folder: Path) -> None:
        one_file("half")(folder)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with pytest.raises(CannotWrite, match=r"needs 5.0 KiB, .*Disk quota exceeded"):
        replace_folder(target, fails, num_bytes=5 << 10)
    assert (target / "file").read_text() == "second" and os.listdir(tmp_path) == ["folder"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path):
    target = tmp_path / "folder"
    replace_folder(target, one_file("first"))
    target.rename(tmp_path / ".old-folder")
    (tmp_path / ".new-folder").mkdir()
    recover(target)
    assert (target / "file").read_text() == "first"
    replace_folder(target, one_file("second"))
    assert (target / "file").read_text() == "second" and os.listdir(tmp_path) == ["folder"]


def test_a_half_removed_folder_is_never_put_back(tmp_path, monkeypatch):
    """Removing takes long; a kill in the middle of it must not look like one between the renames."""
    target = tmp_path / "folder"
    replace_folder(target, one_file("first"))
    monkeypatch.setattr(shutil, "rmtree", lambda path, **options: None)  # killed before it began
    replace_folder(target, one_file("second"))
    files.discard(target)
    recover(target)
    assert not target.exists()


def test_what_cannot_be_removed_ends_nothing(tmp_path, monkeypatch):
    """A network disk keeps a file that another process holds open (prime-rl#1763)."""
    target = tmp_path / "folder"
    replace_folder(target, one_file("first"))

    def busy(path: Path, to: Path, rename=Path.rename) -> Path:
        if to.name.startswith(".trash-"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", busy)
    replace_folder(target, one_file("second"))
    assert (target / "file").read_text() == "second"


def test_a_link_to_a_folder_is_replaced_and_its_target_left(tmp_path):
    replace_folder(tmp_path / "elsewhere", one_file("mine"))
    (tmp_path / "folder").symlink_to("elsewhere")
    for text in ("first", "second"):
        replace_folder(tmp_path / "folder", one_file(text))
    assert (tmp_path / "folder" / "file").read_text() == "second"
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"


def test_files_are_replaced_one_by_one_and_others_stay(tmp_path):
    folder = tmp_path / "out"
    replace_files(folder, one_file("first"))
    (folder / "log").write_text("kept")

    def fails(new: Path) -> None:
        one_file("half")(new)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CannotWrite, match="No space left"):
        replace_files(folder, fails)
    assert (folder / "file").read_text() == "first"
    replace_files(folder, one_file("second"))
    assert (folder / "file").read_text() == "second" and sorted(os.listdir(folder)) == ["file", "log"]


def test_a_file_system_that_cannot_sync_folders_is_fine(tmp_path, monkeypatch):
    def no_folders(descriptor: int, fsync=os.fsync) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    replace_file(tmp_path / "file", "text")
    replace_folder(tmp_path / "folder", one_file("text"))


def test_a_real_limit_of_the_system(tmp_path):
    """Both writers, where the system allows files of 4 KiB: safetensors has an error of its own."""
    program = f"""
import resource, torch
from pathlib import Path
from safetensors.torch import save_file
from lamer_fast.files import CannotWrite, replace_folder, replace_file
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder = Path({str(tmp_path)!r})
for write in (
    lambda: replace_folder(folder / "a", lambda f: save_file({{"x": torch.zeros(4096)}}, f / "x"), 16384),
    lambda: replace_file(folder / "b", bytes(8192)),
):
    try:
        write()
    except CannotWrite as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    first, second = done.stdout.splitlines()
    assert "needs 16.0 KiB" in first and "File too large" in first
    assert "needs 8.0 KiB" in second and "File too large" in second
    assert not list(tmp_path.iterdir()) and not done.stderr


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def test_errors_of_the_program_are_not_the_disk_s(tmp_path):
    def wrong(folder: Path) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        replace_folder(tmp_path / "folder", wrong)
    assert not list(tmp_path.iterdir())


def test_who_may_not_write_is_named(tmp_path):
    with pytest.raises(CannotWrite) as error, files.writing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert f"{tmp_path} belongs to" in str(error.value) and "this is" in str(error.value)


def test_sizes():
    assert [size_text(n) for n in (0, 1023, 1024, 11_429_478, 3 << 30, 5 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "10.9 MiB", "3.0 GiB", "5,120.0 GiB",
    ]  # fmt: skip
