"""A JSON file of any size, one element at a time: the largest is held in memory, never the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TextIO

CHUNK = 1 << 20  # characters
DECODER = json.JSONDecoder()
SPACE = " \t\r\n"
ENDS = frozenset(SPACE + ",:]}")  # what may stand behind a value


def elements(path: Path) -> Iterator[Any]:
    """Of a file that is a list.

    Raises:
        ValueError: the file is no list, is cut off, or not JSON; names the file and how far it could be read.
    """
    with _Text(path) as text:
        text.expect("[")
        yield from (text.value() for _ in text.until("]"))


def members(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, value) of a file that is an object; raises as `elements`."""
    with _Text(path) as text:
        text.expect("{")
        for _ in text.until("}"):
            key = text.value()
            text.expect(":")
            yield str(key), text.value()


class _Text:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: TextIO = path.open(encoding="utf-8")
        self.buffer, self.at, self.before, self.ended = "", 0, 0, False

    def __enter__(self) -> _Text:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def until(self, close: str) -> Iterator[None]:
        """Once before each element; what stands between them has been read."""
        if self.next() == close:
            return
        while True:
            yield
            separator = self.next()
            if separator not in (",", close):
                raise self.error(f"found {separator!r}, expected ',' or {close!r}")
            self.at += 1
            if separator == close:
                return

    def expect(self, character: str) -> None:
        if self.next() != character:
            raise self.error(f"found {self.next()!r}, expected {character!r}")
        self.at += 1

    def next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in SPACE + "\ufeff":
                self.at += 1
            if self.at < len(self.buffer) or not self.read():
                return self.buffer[self.at : self.at + 1]

    def value(self) -> Any:
        self.next()
        while True:
            try:
                value, end = DECODER.raw_decode(self.buffer, self.at)
            except (JSONDecodeError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self.read():
                    raise self.error("an element that is cut off or no JSON") from None
                continue
            if self.buffer[end : end + 1] in ENDS or not self.read():  # 12 may go on to be 12.5
                self.at = end
                return value

    def read(self) -> bool:
        """More of the file, at least as much as is held, so that a long element is not decoded often."""
        if self.ended:
            return False
        try:
            more = self.file.read(max(CHUNK, len(self.buffer) - self.at))
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8, {error.reason}") from None
        self.before += self.at
        self.buffer, self.at, self.ended = self.buffer[self.at :] + more, 0, not more
        return bool(more)

    def error(self, what: str) -> ValueError:
        if self.ended and self.at >= len(self.buffer.rstrip()):
            what = "it ends in the middle"
        return ValueError(
            f"{self.path} is broken or only partly downloaded: {what} at character {self.before + self.at:,}"
        )
