"""The mark that a run leaves in its folder, and the lock on it: one process at a time."""

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from lamer_fast.strict_json import json_text

MARK = ".lamer-fast-run"  # says that the folder is a run's, and while one goes on, whose

TAKEN = {errno.EAGAIN, errno.EACCES}
UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
GRACE_S = 0.2  # another start may hold the lock for the moment in which it looks

_held: set[int] = set()  # descriptors of this process


class FolderLock:
    """The right to write in `folder`, until `release` or the end of the process, `kill -9` included.

    Where the file system has no locks nothing is refused, and `note` says so.

    Raises:
        ValueError: another process has it; names that process.
        OSError: the mark cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.note = ""
        mark = folder / MARK
        self._descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            refusal = _lock(self._descriptor, fcntl.LOCK_EX, GRACE_S)
            holder = _holder(self._descriptor)
            replaced = not mark.exists() or not os.path.samestat(os.fstat(self._descriptor), mark.stat())
            if replaced or (refusal and refusal.errno in TAKEN):
                raise ValueError(_in_use(folder, holder))
            if refusal:
                last = f" (the last one that began and did not end: {holder})" if holder else ""
                self.note = (
                    f"{folder} is on a file system without locks ({refusal.strerror}): a second start "
                )
                self.note += f"in it would not be noticed{last}"
            me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
            self._write(json_text(me))
        except BaseException:
            os.close(self._descriptor)
            raise
        _held.add(self._descriptor)

    def release(self) -> None:
        _held.discard(self._descriptor)
        self._write("")
        os.close(self._descriptor)

    def _write(self, text: str) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)


def try_lock(descriptor: int) -> bool:
    """Takes the lock of an open file, until all its descriptors are closed, those of children included.

    False: another opening of the file has it. Where the file system has no locks nothing is refused.
    """
    refusal = _lock(descriptor, fcntl.LOCK_EX, 0.0)
    return refusal is None or refusal.errno not in TAKEN


def check_free(folder: Path) -> None:
    """Raises ValueError if a run goes on in `folder`; writes nothing."""
    try:
        descriptor = os.open(folder / MARK, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        refusal = _lock(descriptor, fcntl.LOCK_SH, 0.0)
        if refusal and refusal.errno in TAKEN:
            raise ValueError(_in_use(folder, _holder(descriptor)))
    finally:
        os.close(descriptor)


def _in_use(folder: Path, holder: str) -> str:
    return f"{folder} is in use by {holder or 'another start'}; stop that run, or take another --name"


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _lock(descriptor: int, kind: int, patience_s: float) -> OSError | None:
    """None when locked; else why not: an error of TAKEN (after `patience_s`) or of UNSUPPORTED."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return None
        except OSError as error:
            if error.errno in TAKEN and time.monotonic() < deadline:
                time.sleep(0.02)
            elif error.errno in TAKEN | UNSUPPORTED:
                return error
            else:
                raise


def _close_in_child() -> None:
    """A forked worker that outlives a killed run would keep its lock: they share the open file."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
