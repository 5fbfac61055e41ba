"""WorkerProcess: one process of a pool. Jobs go out and answers come back in the same order, a line each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

CHUNK = 1 << 18
MAX_LINE = 1 << 29  # bytes: more than all texts of a board may have


@dataclass(slots=True)
class Job:
    """A call of a board that is not answered yet."""

    kind: str  # "start" of the process, "reset", "rebuild", "restart", "step", or a question
    board: int
    draw: int  # how often the board had been reset: what is older than its last reset counts for nothing
    arguments: list[Any]
    limit_s: float

    def line(self) -> bytes:
        call = "reset" if self.kind == "rebuild" else self.kind
        message = self.arguments[0] if self.kind == "start" else [call, self.board, *self.arguments]
        return json.dumps(message).encode() + b"\n"  # noqa: TID251  # for a worker of ours


class WorkerProcess:
    """A fresh interpreter, not a fork, in a session of its own: Ctrl-C reaches the trainer alone.

    Attributes:
        jobs: what it has been told and not answered; it is at work on the first.
        closed: nothing will be heard of it any more.
    """

    def __init__(self) -> None:
        self._pipe, theirs = socket.socketpair()
        read_life, self._life = os.pipe()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from lamer_fast.envs.pool_worker import main; main({theirs.fileno()}, {read_life})"
        )
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=(theirs.fileno(), read_life),
                start_new_session=True,
                # the order of a set, and with it a game, must be the same in every worker
                env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"} | os.environ,
            )
        os.close(read_life)
        self._pipe.setblocking(False)
        self.jobs: deque[Job] = deque()
        self.closed = False
        self._since = time.monotonic()
        self._out = bytearray()
        self._in = bytearray()

    def fileno(self) -> int:
        return self._pipe.fileno()

    def tell(self, job: Job) -> None:
        """Sent by the next `flush`."""
        if not self.jobs:
            self._since = time.monotonic()
        self.jobs.append(job)
        self._out += job.line()

    def flush(self) -> bool:
        """Sends what the pipe takes without waiting; whether something is left."""
        with suppress(BlockingIOError, ConnectionError):  # of the latter `receive` hears
            while self._out:
                del self._out[: self._pipe.send(self._out[:CHUNK])]
        return bool(self._out)

    def receive(self) -> list[tuple[Job, Any]]:
        """Jobs that are done, with their answers; does not wait."""
        found: list[tuple[Job, Any]] = []
        try:
            while not self.closed:
                chunk = self._pipe.recv(CHUNK)
                if not chunk:
                    self.closed = True
                    break
                self._since = time.monotonic()
                self._in += chunk
                if b"\n" in chunk:
                    *lines, self._in = self._in.split(b"\n")
                    for line in lines:
                        answer = json.loads(line)
                        found.append((self.jobs.popleft(), answer))
                if len(self._in) > MAX_LINE or len(chunk) < CHUNK:
                    break
        except BlockingIOError:
            pass
        except (ConnectionError, ValueError, IndexError):  # no line of a worker: it has lost its senses
            self.closed = True
        self.closed |= len(self._in) > MAX_LINE
        return found

    def at_work_on(self) -> Job | None:
        """The first job, if it was sent before the pipe broke."""
        unsent = self._out.count(b"\n")
        return self.jobs[0] if len(self.jobs) > unsent else None

    def left_s(self) -> float:
        """Seconds that its call may still take; not positive when it is overdue."""
        if not self.jobs:
            return float("inf")
        return self._since + self.jobs[0].limit_s - time.monotonic()

    def ended(self) -> bool:
        """Whether the process is dead, even if a child of it still holds the pipe."""
        try:
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def hang_up(self) -> None:
        """It then ends by itself, if it listens."""
        self._pipe.close()

    def end(self) -> str:
        """Kills it and what it has started; how it ended."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # not waited for yet: the number is still its own
            self.process.wait()
            os.close(self._life)
            self._pipe.close()
        code = self.process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"
