"""Rollouts that another trainer wrote, as a file: which task, trial and episode, and whether it was won.

Three kinds of lines are known by their fields (docs/evaluation.md has all):

    {"task": 5, "trial": 0, "episode": 1, "success": true}         this project's
    {"input": "...", "output": "...", "gts": null, "score": 1.0}   verl's, of rollout_data_dir
    {"prompt": "...", "completion": "...", "reward": 1.0}          TRL's completions, also as parquet

Of the last two a task is its prompt. A file that cannot be read whole is refused, with its bad lines.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from lamer_fast.fields import Range
from lamer_fast.strict_json import finite, json_text
from lamer_fast.text import one_line

SHOWN = 5  # bad lines that a refusal names
OWN_FIELDS = ("task", "seed")
NO_REWARD = ("step", "advantage", "mode", "prompt", "completion")  # columns of TRL that are none
PAIRS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 10.0))  # rewards of a loss and a win that need no further word
Row = Mapping[str, Any]


@dataclass(frozen=True)
class DumpOptions:
    file: Path | None = None
    """Score another trainer's rollouts from this file: JSON lines (.gz), or TRL's parquet."""
    reward: str | None = None
    """Name of the reward field; not needed if there is only one, or if the lines have a success."""
    success_reward: Annotated[float, Range(-1e12, 1e12)] | None = None
    """Smallest reward of a success; not needed if rewards are 0 and 1, -1 and 1, or 0 and 10."""
    step: int | None = None
    """Training step to score, if the file has several."""


@dataclass(frozen=True)
class Rollout:
    """One episode."""

    place: str  # "line 3"
    panel: str  # name of the set of tasks that it is of; usually empty
    digest: str  # of that panel, where the writer knew it
    task: str  # an id, 16 hexadecimal digits where it is a number
    trial: str
    episode: int
    success: bool
    lost: bool  # it failed by no fault of the policy
    transcript: dict[str, Any]  # for the page; empty where there are no texts


class BadLine(ValueError):
    pass


def read_dump(options: DumpOptions) -> list[Rollout]:
    """Every episode of the file, in its order.

    Raises:
        ValueError: naming the file and what is wrong with it, line by line.
    """
    path = options.file
    assert path is not None
    if not path.is_file():
        raise ValueError(f"--from-dump {path}: {'is a folder' if path.is_dir() else 'no such file'}")
    bad: list[str] = []
    rows = list(_parquet(path) if path.suffix == ".parquet" else _lines(path, bad))
    if options.step is not None:
        rows = [(place, row) for place, row in rows if row.get("step") == options.step]
    steps = sorted({row["step"] for _, row in rows if isinstance(row.get("step"), int)})
    if len(steps) > 1:
        raise ValueError(f"{path} holds the steps {steps[:20]}, of different policies: take --dump.step")
    if not rows and not bad:
        of = f" of step {options.step}" if options.step is not None else ""
        raise ValueError(f"{path} holds no rollouts{of}")
    found: list[Rollout] = []
    wins = (
        _wins(path, rows, options) if rows else bool
    )  # without a row that can be read, the bad lines are told
    for place, row in rows:
        try:
            found += _rollouts(place, row, wins)
        except BadLine as error:
            bad.append(f"{place}: {error}")
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise ValueError(f"{path}: {len(bad)} bad line{'s' * (len(bad) > 1)}. {'; '.join(bad[:SHOWN])}{more}")
    return found


def _lines(path: Path, bad: list[str]) -> Iterator[tuple[str, Row]]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    bad.append(f"line {number}: no JSON ({one_line(str(error), 100)})")
                    continue
                if isinstance(row, dict):
                    yield f"line {number}", row
                else:
                    bad.append(f"line {number}: expected an object, found {one_line(repr(row), 50)}")
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise ValueError(f"{path}: reading parquet needs pyarrow: pip install pyarrow") from None
    try:
        rows = read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged: {one_line(str(error))}") from None
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _rollouts(place: str, row: Row, wins: Callable[[Row], bool]) -> Iterator[Rollout]:
    panel, digest = (_word(row, name) for name in ("panel", "panel_digest"))
    lost = bool(row.get("error"))
    if any(name in row for name in OWN_FIELDS):
        name = next(name for name in OWN_FIELDS if name in row)
        task = _id(row, name)
        trial = place
        if "trial" in row or "episode" in row:
            trial = "/".join(_id(row, name) for name in ("group", "trial") if name in row)
        if "success_by_episode" in row:
            episodes = row["success_by_episode"]
            if not isinstance(episodes, list) or not episodes:
                raise BadLine(f"success_by_episode = {one_line(repr(episodes), 50)}, must be a list of flags")
            for episode, won in enumerate(episodes):
                success = _flag("success_by_episode", won)
                yield Rollout(place, panel, digest, task, trial, episode, success, lost, _played(row))
            return
        episode = row.get("episode", 0)
        if not isinstance(episode, int) or isinstance(episode, bool) or episode < 0:
            raise BadLine(f"episode = {episode!r}, must be a number from 0")
        texts = row.get("prompt", ""), row.get("completion", row.get("output", ""))
    else:
        prompt, reply = ("input", "output") if "input" in row else ("prompt", "completion")
        if prompt not in row:
            raise BadLine(f"neither task, seed, input nor prompt among its fields {sorted(row)[:8]}")
        task, trial, episode = _digest(row[prompt], row.get("gts")), place, 0
        texts = row[prompt], row.get(reply, "")
    won = wins(row)
    yield Rollout(place, panel, digest, task, trial, episode, won, lost, _transcript(*texts, won))


def _wins(path: Path, rows: Sequence[tuple[str, Row]], options: DumpOptions) -> Callable[[Row], bool]:
    """Whether a line is a success: by what it says, or by its reward."""
    if options.reward is None and rows and all("success_by_episode" in row for _, row in rows):
        return lambda row: False
    for name in ("success", "acc") if options.reward is None else ():
        if any(name in row for _, row in rows):
            return lambda row: _flag(name, row.get(name))
    name = options.reward or _reward_name(path, rows)
    limit = options.success_reward
    if limit is None:
        values = sorted({float(row[name]) for _, row in rows if _is_number(row.get(name))})
        pair = next((pair for pair in PAIRS if set(values) <= set(pair)), None)
        if pair is None:
            seen = f"from {values[0]:g} to {values[-1]:g}" if values else "no numbers"
            raise ValueError(
                f"{path}: {name} is {seen}: say from where on it is a success, --dump.success-reward"
            )
        limit = pair[1]

    def wins(row: Row) -> bool:
        if not _is_number(row.get(name)):
            raise BadLine(f"{name} = {one_line(repr(row.get(name)), 50)}, must be a finite number")
        return bool(row[name] >= limit)

    return wins


def _reward_name(path: Path, rows: Sequence[tuple[str, Row]]) -> str:
    names = sorted({name for _, row in rows for name in row})
    for name in ("reward", "score"):
        if name in names:
            return name
    numbers = [n for n in names if n not in NO_REWARD and any(_is_number(row.get(n)) for _, row in rows)]
    if "prompt" in names and len(numbers) == 1:
        return numbers[0]
    which = f"which of {numbers} is it? --dump.reward" if numbers else f"its fields are {names[:12]}"
    raise ValueError(f"{path} has neither success nor reward: {which}")


def _flag(name: str, value: Any) -> bool:
    if value not in (0, 1):  # True and False are among them
        raise BadLine(f"{name} = {one_line(repr(value), 50)}, must be true or false")
    return bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _word(row: Row, name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise BadLine(f"{name} = {one_line(repr(value), 50)}, must be a text")
    return value


def _id(row: Row, name: str) -> str:
    value = row[name]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return f"{value:016x}"
    if isinstance(value, str) and value:
        return value
    raise BadLine(f"{name} = {one_line(repr(value), 50)}, must be a text or a number from 0 to 2**64 - 1")


def _digest(*values: Any) -> str:
    text = json.dumps(values, sort_keys=True, default=str)  # noqa: TID251  # of another's file
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _played(row: Row) -> dict[str, Any]:
    """The turns of a trial that was written here."""
    turns, keys = row.get("turns"), {"phase", "episode", "turn", "board", "reply", "reward"}
    if not isinstance(turns, list) or not all(isinstance(t, dict) and t.keys() >= keys for t in turns):
        return {}
    texts = all(isinstance(t["board"], str) and isinstance(t["reply"], str) for t in turns)
    if not (texts and all(_is_number(t["reward"]) for t in turns)):
        return {}
    return {"turns": finite(turns), "success_by_episode": row["success_by_episode"]} if turns else {}


def _transcript(prompt: Any, reply: Any, won: bool) -> dict[str, Any]:
    if not prompt and not reply:
        return {}
    both = (prompt, reply)
    shown = [text if isinstance(text, str) else json_text(finite(text), default=str) for text in both]
    turn = {
        "phase": "play",
        "episode": 0,
        "turn": 0,
        "board": shown[0],
        "reply": shown[1],
        "reward": float(won),
    }
    return {"turns": [turn | {"valid": True, "done": True, "success": won}], "success_by_episode": [won]}
