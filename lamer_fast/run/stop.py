"""Signals: a run stops between iterations, or at once when it is asked twice."""

import os
import signal
from contextlib import suppress
from types import FrameType, TracebackType

STOPPING = b"stopping after this iteration; a second Ctrl-C stops at once and loses what is not saved\n"
INTERRUPTED = 130  # exit status, as shells give it


class StopRequest:
    """SIGINT, SIGTERM, SIGHUP, SIGUSR1 set `asked`; a second SIGINT interrupts at once. A context manager.

    A SIGHUP that was ignored before, by nohup, stays ignored.
    """

    def __init__(self, *, speaks: bool = True) -> None:
        self.asked = False
        self._interrupts, self._speaks = 0, speaks

    def __enter__(self) -> "StopRequest":
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]  # the last one: schedulers, before the end
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self.previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third one need not wait for anything
            raise KeyboardInterrupt
        self.asked = True
        if self._speaks:
            with suppress(OSError):  # not print: the signal may have come in the middle of one
                os.write(2, STOPPING)


class Interruptible:
    """Ends its block at the first SIGINT, whatever the code there makes of it. A context manager.

    `interrupted` is then True, and the exception that left the block is swallowed: an import that is cut
    short may end with another error than KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.interrupted = False

    def __enter__(self) -> "Interruptible":
        self.previous = signal.getsignal(signal.SIGINT)
        if self.previous is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool:
        if self.interrupted:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to do but to leave
            return True
        if self.previous is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.previous)
        return False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        raise KeyboardInterrupt
