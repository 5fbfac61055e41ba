"""Files and folders written whole or not at all, and one line that says why a write failed."""

import errno
import gzip
import json
import math
import os
import pwd
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class CannotWrite(OSError):
    """What could not be written and why, with the bytes needed and free; its text is for the user."""


@contextmanager
def writing(path: Path, num_bytes: int = 0) -> Iterator[None]:
    """Turns a failing write of `path` (about `num_bytes`, 0 when small) into `CannotWrite`."""
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        if not _is_failed_write(error):
            raise
        needs = f"needs {size_text(num_bytes)}, " if num_bytes else ""
        free = f"{needs}{size_text(free_bytes(path))} are free"
        raise CannotWrite(f"cannot write {path} ({free}): {_reason(error, path)}") from error


def _is_failed_write(error: Exception) -> bool:
    safetensors = sys.modules.get("safetensors")  # its own error, no OSError, for a full disk
    return isinstance(error, OSError) or (
        safetensors is not None and isinstance(error, safetensors.SafetensorError)
    )


def _reason(error: Exception, path: Path) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, PermissionError):
        folder = existing(path)
        reason += f"; {folder} belongs to {_user(folder.stat().st_uid)}, this is {_user(os.geteuid())}"
    return reason


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    path = path.absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def check_folder(flag: str, path: Path) -> None:
    """Raises ValueError where a file stands in the place of the folder `path`, or of one above it."""
    if not (there := existing(path)).is_dir():
        raise ValueError(f"{flag} {path}: {there} is a file; name a folder")


def check_writable(flag: str, path: Path) -> None:
    """Raises ValueError where nothing can be written in the folder `path`, or where it would be made."""
    if not os.access(there := existing(path), os.W_OK, effective_ids=True):
        raise ValueError(f"{flag} {path}: nothing can be written in {there}; name another folder")


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where `path` is or would be."""
    return shutil.disk_usage(existing(path)).free


def folder_bytes(path: Path) -> int:
    """Bytes of the files under `path`; links are not followed."""
    return sum(p.lstat().st_size for p in path.rglob("*") if not p.is_dir())


def size_text(num_bytes: float) -> str:
    """`512 B`, `10.9 MiB`, `2.0 GiB`."""
    if num_bytes < 1024:
        return f"{num_bytes:.0f} B"
    unit = min(3, int(math.log(num_bytes, 1024)))
    return f"{num_bytes / 1024**unit:,.1f} {('KiB', 'MiB', 'GiB')[unit - 1]}"


def replace_file(path: Path, content: str | bytes) -> None:
    """Writes a file so that a crash leaves the old content or the new; a link keeps pointing where it did.

    Raises:
        CannotWrite: the old content is intact.
    """
    data = content.encode() if isinstance(content, str) else content
    target = Path(os.path.realpath(path))
    new = target.with_name(f".new-{os.getpid()}-{target.name}")
    with writing(path, len(data)):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync(target.parent)


def replace_folder(target: Path, write: Callable[[Path], None], num_bytes: int = 0) -> None:
    """Runs `write` on a new folder, syncs it to the disk and puts it in the place of `target`.

    A crash at any moment leaves either the old folder or the new one under that name, save in the instant
    between the two renames when an old one is replaced: then `recover` brings it back.

    Raises:
        CannotWrite: the old folder is intact.
    """
    new, old = _beside(target, "new"), _beside(target, "old")
    with writing(target, num_bytes):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        remove(new)
        discard(old)
        try:
            new.mkdir()
            write(new)
            for path in [*new.rglob("*"), new]:
                sync(path)
            if os.path.lexists(target):
                target.rename(old)
            new.rename(target)
        except BaseException:
            remove(new)
            recover(target)
            raise
        sync(target.parent)
    with suppress(OSError):  # the new one is there: what is left of the old one is only room on the disk
        discard(old)


def replace_files(folder: Path, write: Callable[[Path], None]) -> None:
    """Runs `write` on a new folder, then puts each of its files in the place of the one in `folder`.

    Raises:
        CannotWrite: files that `folder` had are intact, each as it was or as the new one.
    """
    new = folder / ".new-files"
    with writing(folder):
        remove(new)
        try:
            new.mkdir(parents=True)
            write(new)
            for path in new.iterdir():
                sync(path)
                path.replace(folder / path.name)
            sync(folder)
        finally:
            remove(new)


def sweep(folder: Path) -> None:
    """Removes the half-written and half-removed folders that killed processes left in `folder`."""
    for path in [*folder.glob(".new-*/"), *folder.glob(".trash-*/")]:
        remove(path)


def recover(target: Path) -> None:
    """Puts back what `replace_folder` had moved aside when it was killed between its two renames."""
    old = _beside(target, "old")
    if os.path.lexists(old) and not os.path.lexists(target):
        old.rename(target)


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{kind}-{target.name}")


def discard(folder: Path) -> None:
    """Removes a folder by way of another name, so that no half-removed one looks complete.

    What cannot be removed (a file that another process holds open on a network disk) stays under that name.
    """
    trash = folder.with_name(f".trash-{folder.name}")
    remove(trash)
    if os.path.lexists(folder):
        folder.rename(trash)
        remove(trash)


def remove(path: Path) -> None:
    """A file, a folder with all in it, or a link without what it points to; nothing is fine too."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # a file system (network, FUSE) without this call


def sync(path: Path) -> None:
    """Forces a file or folder to the disk, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        ValueError: names the file that is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path} is not JSON: {e}") from None


def read_jsonl(path: Path, *, growing: bool = False) -> list[dict[str, Any]]:
    """Records of a JSON-lines file, packed by gzip if its name ends so.

    Args:
        growing: half a last line is left out, as a crash or a run that is writing it leaves it.

    Raises:
        ValueError: names the file, and the line that is not JSON or no object.
    """
    records = []
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as f:
            for number, line in enumerate(f, 1):
                try:
                    records.append(json.loads(line.decode("utf-8")))
                except (ValueError, RecursionError) as e:
                    if growing and not line.endswith(b"\n"):
                        break
                    raise ValueError(f"{path}, line {number} is not JSON: {e}") from None
                if not isinstance(records[-1], dict):
                    raise ValueError(f"{path}, line {number} is no JSON object")
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise ValueError(f"{path} is no whole gzip file: {e}") from None
    return records
