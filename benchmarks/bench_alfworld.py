"""How fast are ALFWorld's native boards against its package, on games of our own making?

A step is a command of the menu, its text and the menu after it. `ours`: 1,024 boards of twelve games, every
board on its own walk. `package`: one board in this process, with the caches that change no text; without them
in the row below it. Rates are per second of CPU time on one core. The package has rows where it is installed:

    PYTHONPATH=.:kernels VENV/bin/python benchmarks/bench_alfworld.py --json
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from harness import ROOT, Case, Row, compare, main

sys.path.insert(0, str(ROOT))
from lamer_fast import _C
from lamer_fast.envs.adapters.alfworld.compiler.game import compile_game
from lamer_fast.envs.adapters.alfworld.games import games
from lamer_fast.envs.registry import default_options, entry, make_env
from tests.envs.golden import record_alfworld

NUM_BOARDS, NUM_GAMES, TURNS = 1024, 12, 16
TYPES = "pick,look,clean,heat,cool,pick2"


def options(size: str) -> Any:
    return replace(default_options("alfworld"), data=f"made:{size}", task_types=TYPES)


@functools.cache
def golden() -> bool:
    """Every text, menu and score of the package's recordings."""
    for held in record_alfworld.load()["games"]:
        made = record_alfworld.content(*(held[key] for key in ("size", "split", "task", "index")))
        native, batch = _C.AlfworldGame(compile_game(made)), _C.AlfworldBatch(1)
        for walk in held["walks"]:
            batch.reset([native])
            for command, text, menu, _, won in walk["steps"]:
                if command is not None:
                    batch.step([command.strip()])
                replies = [] if won else [f"<action>{c}</action>" for c in held["menus"][menu]]
                if (batch.texts(), batch.replies(), bool(batch.flags()[1][0])) != ([text], [replies], won):
                    return False
    return True


class Boards:
    """Live boards and random commands of their menus, drawn before the clock runs."""

    def __init__(self, size: str) -> None:
        self.env: Any = make_env(options(size), NUM_BOARDS, split="train")
        self.boards = np.arange(NUM_BOARDS)
        self.env.reset((self.boards % NUM_GAMES).astype(np.uint64))
        rng = random.Random(0)
        self.turns = []
        for _ in range(TURNS):
            menus = self.env.legal_actions(self.boards)
            self.turns.append([rng.choice(menu) if menu else "" for menu in menus])
            self.env.step(self.turns[-1], self.boards)
        self.env.restart(self.boards)

    def steps(self) -> None:
        for turn in self.turns:
            self.env.step(turn, self.boards)
            self.env.observe(self.boards)
            self.env.legal_actions(self.boards)
        self.env.restart(self.boards)


def step(case: Case) -> list[Row]:
    boards = Boards(case.size)
    rows = compare(
        {"ours": boards.steps}, verify=golden, work=NUM_BOARDS * TURNS, unit="steps/s", goal=case.goal
    )
    return rows + package_rows(case.size)


def package_rows(size: str) -> list[Row]:
    if find_spec("alfworld") is None:
        print("the package alfworld is not installed: its rows are left out", file=sys.stderr)
        return []
    board = entry("alfworld").board(options(size), "train")
    board.reset(0)
    rng = random.Random(0)

    def call() -> None:
        if not board.menu:
            board.restart()
        board.step(f"<action>{rng.choice(board.menu)}</action>")
        board.observe()

    return compare({"package": call}, verify=golden, work=1, unit="steps/s", repeats=9, burst_s=0.5)


def board_call(case: Case) -> list[Row]:
    boards = Boards("full")
    env, idx = boards.env, boards.boards
    for turn in boards.turns[:5]:
        env.step(turn, idx)
    data = env.snapshot(idx)
    calls: dict[str, Callable[[], Any]] = {
        "restart": lambda: env.restart(idx),
        "snapshot": lambda: env.snapshot(idx),
        "restore": lambda: env.restore(data, idx),
    }

    def verify() -> bool:
        env.restore(data, idx)
        seen = env.observe(idx), env.legal_actions(idx)
        env.restart(idx)
        start = env.observe(idx)
        env.restore(env.snapshot(idx), idx)
        again = env.observe(idx)
        env.restore(data, idx)
        return start == again and (env.observe(idx), env.legal_actions(idx)) == seen

    return compare(
        {"ours": calls[case.call]}, verify=verify, work=NUM_BOARDS, unit="boards/s", goal=case.goal
    )


def build(case: Case) -> list[Row]:
    source = games(f"made:{case.size}")
    content = source.content(source.names("train")[0])
    return compare({"ours": lambda: compile_game(content)}, verify=golden, unit="s", repeats=5)


CASES = [
    Case(name="step + text + menu, small rooms", bench=step, size="small", goal=200e3),
    Case(name="step + text + menu, rooms like ALFRED's", bench=step, size="full", goal=200e3),
    Case(name="restart", bench=board_call, call="restart", goal=1e6),
    Case(name="snapshot", bench=board_call, call="snapshot", goal=1e6),
    Case(name="restore", bench=board_call, call="restore", goal=1e6),
    Case(name="tables of a game of a room like ALFRED's", bench=build, size="full", goal=None),
]


def bench(case: Case) -> list[Row]:
    rows: list[Row] = case.bench(case)
    return rows


if __name__ == "__main__":
    main(bench, CASES)
