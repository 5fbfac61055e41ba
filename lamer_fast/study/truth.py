"""Statements of reflections, checked on the board: exact, by playing it.

Only what a small model has learned to write is read as a statement. Of a note in free words nothing is
claimed to be known.

    minesweeper   mine (2, 3) (4, 1)     each of these cells is a mine
    sokoban       stuck: ... / too slow: ...   the board at the end of the episode is lost, or is not (with
                                               sticky moves nothing is said: the same replies led elsewhere)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.registry import make_env

CELL = re.compile(r"\((\d+), (\d+)\)")
MINES = re.compile(r"mine(?: \(\d+, \d+\))+")
AT_ONCE = 512  # boards

Trial = Mapping[str, Any]
Truths = list[list[bool]]


def truths_of(trials: Sequence[Trial], env: EnvOptions, split: str) -> tuple[Truths, Truths]:
    """Of each trial: its statements, each true or not; what it should have said, each said or not."""
    if env.name == "minesweeper":
        return _of_mines(trials, env, split)
    if env.name == "sokoban" and not getattr(env, "sticky", 0.0):
        return _of_stuck(trials, env, split), [[] for _ in trials]
    return [[] for _ in trials], [[] for _ in trials]


def _of_mines(trials: Sequence[Trial], env: EnvOptions, split: str) -> tuple[Truths, Truths]:
    """A cell is a mine if opening it first loses; mines that went off should be named."""
    named: list[tuple[int, str]] = []
    complete: Truths = [[] for _ in trials]
    for i, trial in enumerate(trials):
        hit: set[str] = set()
        for turn in trial["turns"]:
            if turn["phase"] == "play":
                hit |= {_cell(turn["reply"])} if turn["done"] and not turn["success"] else set()
                continue
            cells = [match[0] for match in CELL.finditer(turn["reply"])]
            cells = cells if MINES.fullmatch(turn["reply"].strip()) else []
            named += [(i, cell) for cell in cells]
            complete[i] += [cell in cells for cell in sorted(hit - {""})]
    wanted = sorted(set(named))
    replies = [[f"<action>{cell}</action>"] for _, cell in wanted]
    out = _played([trials[i]["seed"] for i, _ in wanted], replies, env, split)
    is_mine = {key: done and not success for key, (done, success, _) in zip(wanted, out, strict=True)}
    truths: Truths = [[] for _ in trials]
    for i, cell in named:
        truths[i].append(is_mine[i, cell])
    return truths, complete


def _of_stuck(trials: Sequence[Trial], env: Any, split: str) -> Truths:
    claims: list[tuple[int, bool]] = []
    episodes: list[list[str]] = []
    for i, trial in enumerate(trials):
        replies: list[str] = []
        for turn in trial["turns"]:
            if turn["phase"] == "play":
                replies = [] if turn["turn"] == 0 else replies
                replies = [*replies, turn["reply"]]
            elif turn["reply"].startswith(("stuck:", "too slow:")):
                claims.append((i, turn["reply"].startswith("stuck:")))
                episodes.append(replies)
    seeds = [trials[i]["seed"] for i, _ in claims]
    out = _played(seeds, episodes, replace(env, track_dead=True), split)
    truths: Truths = [[] for _ in trials]
    for (i, says_stuck), (_, _, is_dead) in zip(claims, out, strict=True):
        truths[i].append(says_stuck == is_dead)
    return truths


def _cell(reply: str) -> str:
    match = CELL.search(reply)
    return match[0] if match else ""


def _played(
    seeds: Sequence[int], episodes: Sequence[Sequence[str]], env: EnvOptions, split: str
) -> list[tuple[bool, bool, bool]]:
    """(done, success, lost for good) after each list of replies on the board of its seed."""
    found: list[tuple[bool, bool, bool]] = []
    if not seeds:
        return found
    boards: Any = make_env(env, min(AT_ONCE, len(seeds)), split=split)
    for start in range(0, len(seeds), AT_ONCE):
        part = episodes[start : start + AT_ONCE]
        own = np.arange(len(part), dtype=np.int64)
        boards.reset(np.array(seeds[start : start + AT_ONCE], np.uint64), own)
        done, success = np.zeros(len(part), bool), np.zeros(len(part), bool)
        for turn in range(max(map(len, part))):
            idx = np.array([i for i, replies in enumerate(part) if turn < len(replies)], np.int64)
            out = boards.step([part[i][turn] for i in idx.tolist()], idx)
            done[idx], success[idx] = out.done, out.success
        dead = boards.batch.flags(own)[2]
        found += list(zip(done.tolist(), success.tolist(), dead.tolist(), strict=True))
    return found
