"""How fast are the native environments, called from Python, against the goals and the installed peers?

One core, 4,096 live boards, 6x6 boards with 2 boxes or 3 mines unless the case says otherwise. Rates are per
second of CPU time. Peers are measured in the same run by env_peers.py if .venv-peers exists. Every case is
gated: boards, texts and rewards have their golden digests, an independent search solves generated boards.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from harness import ROOT, Case, Row, compare, main, measured, resident_bytes

sys.path.insert(0, str(ROOT))
from lamer_fast import _C
from lamer_fast.envs import EnvOptions, Turn, make
from lamer_fast.envs.registry import default_options, make_env
from tests.envs.golden.record_digests import PATH, digest
from tests.envs.sokoban_rules import shortest_solution

NUM_BOARDS = 4096
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@functools.cache
def golden(*keys: str) -> bool:
    recorded = json.loads(PATH.read_text())
    return all(digest(key) == recorded[key] for key in keys)


@functools.cache
def peers() -> list[tuple[str, Row]]:
    if not PEERS_PYTHON.exists():
        print("no peers: see benchmarks/env_peers.py for how to install them", file=sys.stderr)
        return []
    run = [str(PEERS_PYTHON), str(ROOT / "benchmarks" / "env_peers.py")]
    found = json.loads(subprocess.run(run, stdout=subprocess.PIPE, check=True).stdout)
    return [(case, Row(**row)) for case, row in found]


class Played:
    """Live boards and what it takes to step them: random turns and buffers to write to."""

    def __init__(self, name: str, num_boards: int = NUM_BOARDS, num_threads: int = 1, **config: Any) -> None:
        self.batch: Any = make(name, num_boards, num_threads=num_threads, **config)
        self.batch.reset(np.arange(num_boards, dtype=np.uint64))
        rng = np.random.default_rng(0)
        shape = (16, num_boards, 1)
        self.turns = list(rng.integers(0, self.batch.num_actions, shape, dtype=np.int32))
        self.out = self.batch.step(self.turns[0])
        self.batch.restart()
        self.text: Any = None

    def steps(self, style: str | None = None, as_list: bool = False) -> Callable[[], None]:
        """16 turns of every board, with a text of each after each turn; then all start anew."""
        batch, out = self.batch, self.out
        if style and not as_list:
            self.text = batch.observe(None, style)

        def call() -> None:
            for turn in self.turns:
                batch.step(turn, None, None, out)
                if as_list:
                    batch.texts(None, style)
                elif style:
                    batch.observe(None, style, self.text)
            batch.restart()

        return call

    def steps_with_restarts(self, style: str | None = None) -> Callable[[], None]:
        """16 turns of every board; after each turn the finished ones start anew."""
        batch, out = self.batch, self.out
        self.text = batch.observe(None, style) if style else None

        def call() -> None:
            for turn in self.turns:
                batch.step(turn, None, None, out)
                if style:
                    batch.observe(None, style, self.text)
                batch.restart(np.flatnonzero(out.done))

        return call


def step_rate(call: Callable[[], None], num_boards: int, goal: float | None, *keys: str) -> list[Row]:
    rows = compare(
        {"ours": call}, verify=lambda: golden(*keys), work=16 * num_boards, unit="steps/s", goal=goal
    )
    return [replace(row, note=f"instructions: {_C.simd_level()}") for row in rows]


def sokoban_step(case: Case) -> list[Row]:
    played = Played("sokoban", track_dead=case.track_dead)
    key = "sokoban test, dead" if case.track_dead else "sokoban"
    return step_rate(played.steps(), NUM_BOARDS, case.goal, key)


def sokoban_text(case: Case) -> list[Row]:
    call = Played("sokoban").steps(case.style, case.as_list)
    return step_rate(call, NUM_BOARDS, case.goal, "sokoban")


def minesweeper_step(case: Case) -> list[Row]:
    call = Played("minesweeper").steps_with_restarts(case.style)
    return step_rate(call, NUM_BOARDS, case.goal, "minesweeper")


def generate(case: Case) -> list[Row]:
    batch: Any = make(case.game, NUM_BOARDS, num_threads=1, **case.config)
    boards, first = np.arange(case.count), [0]

    def call() -> None:
        first[0] += case.count
        batch.reset(np.arange(first[0], first[0] + case.count, dtype=np.uint64), boards)

    def verify() -> bool:
        if case.game == "minesweeper":
            return golden("minesweeper", "minesweeper 4x4 train", "minesweeper no-guess")
        some = boards[: 50 if batch.height == 6 else 5]
        lengths = [shortest_solution(text) for text in batch.texts(some)]
        return lengths == batch.distances(some).tolist() and min(lengths) >= 5 and max(lengths) <= 21

    return compare({"ours": call}, verify=verify, work=case.count, unit="boards/s", goal=case.goal)


def restart(case: Case) -> list[Row]:
    batch = Played(case.game).batch
    data = batch.snapshot()
    call = batch.restart if case.call == "restart" else lambda: batch.restore(data)

    def verify() -> bool:
        texts = batch.texts()
        batch.step(np.ones((NUM_BOARDS, 2), np.int32))
        changed = batch.texts() != texts
        call()
        return changed and batch.texts() == texts

    return compare({"ours": call}, verify=verify, work=NUM_BOARDS, unit="boards/s", goal=case.goal)


def latency(case: Case) -> list[Row]:
    played = Played("sokoban", num_boards=16)
    batch, out, turn = played.batch, played.out, played.turns[0]
    text = batch.observe()

    def call() -> None:
        batch.step(turn, None, None, out)
        if case.as_list:
            batch.texts()
        else:
            batch.observe(None, None, text)

    return compare(
        {"ours": call}, verify=lambda: golden("sokoban"), setup=batch.restart, unit="s", goal=case.goal
    )


def threads(case: Case) -> list[Row]:
    """An idle machine would take as long as the busiest thread is at work: max of caller and the other."""
    played = [Played("sokoban", num_boards=case.num_boards, num_threads=count) for count in (1, 2)]
    calls = {str(count): boards.steps("numbered") for count, boards in enumerate(played, start=1)}
    options = {"verify": lambda: golden("sokoban"), "repeats": 15}
    alone, caller = (row.p50 for row in compare(calls, clock="thread", **options))
    _, both = (row.p50 for row in compare(calls, clock="process", **options))
    wall = [row.p50 for row in compare(calls, clock="wall", **options)]
    if None in (alone, caller, both, *wall):
        return [measured("ours", [], "speed-up", "x", check="FAILED")]
    ours = [alone / max(caller, both - caller)]
    return [
        measured("ours", ours, "speed-up", "x", goal=case.goal, note="CPU time of the busier thread"),
        measured("wall time", [wall[0] / wall[1]], "speed-up", "x", note="as loaded as the machine was"),
    ]


class Echo:
    """A single board that does nothing, so that what is measured is the pool's own."""

    def __init__(self, options: EnvOptions) -> None:
        self.text = ""

    def reset(self, seed: int) -> None:
        self.text = f"{seed} " * 20

    def restart(self) -> None:
        pass

    def step(self, reply: str) -> Turn:
        return Turn(float(len(reply)))

    def observe(self) -> str:
        return self.text

    def task_prompt(self) -> str:
        return "Anything goes."


def pool(case: Case) -> list[Row]:
    """A turn of every board through worker processes and back, with its text. The goal is 100 us."""
    options = replace(default_options("benchmarks.bench_envs:Echo"), workers=case.workers)
    env = make_env(options, case.num_boards, split=None)
    boards, replies = np.arange(case.num_boards), ["<action>(1, 2)</action>"] * case.num_boards
    env.reset(boards.astype(np.uint64))

    def call() -> None:
        env.step(replies, boards)
        env.observe(boards)

    def verify() -> bool:
        right = (env.step(replies, boards).rewards == len(replies[0])).all()
        return bool(right) and env.observe(boards) == [f"{i} " * 20 for i in boards]

    work, goal = case.num_boards, case.goal
    return compare({"ours": call}, verify=verify, work=work, unit="turns/s", clock="wall", goal=goal)


def memory(case: Case) -> list[Row]:
    """Growth of the process, by batch and texts of many boards."""
    count = 400_000
    before = resident_bytes()
    batch = make("sokoban", count, num_threads=1, num_boxes=1)
    batch.reset(np.arange(count, dtype=np.uint64))
    texts = batch.observe(style="numbered")
    grown = resident_bytes() - before
    passed = "passed" if golden("sokoban 1 box") and texts[0].size == 89 * count else "FAILED"
    return [measured("ours", [grown / count], "memory", "B", check=passed, goal=case.goal)]


def case(bench: Callable[[Case], list[Row]], name: str, goal: float | None = None, **params: Any) -> Case:
    return Case(name=name, bench=bench, goal=goal, **params)


def sokoban_generation(size: int, boxes: int, count: int, goal: float) -> Case:
    config = {"height": size, "width": size, "num_boxes": boxes}
    name = f"sokoban generate {size}x{size}/{boxes}"
    return case(generate, name, goal, game="sokoban", config=config, count=count)


def minesweeper_generation(name: str, count: int, goal: float | None = None, **config: Any) -> Case:
    return case(generate, f"minesweeper {name}", goal, game="minesweeper", config=config, count=count)


CASES = [
    case(sokoban_step, "sokoban step", 80e6, track_dead=False),
    case(sokoban_step, "sokoban step, dead states tracked", track_dead=True),
    case(sokoban_text, "sokoban step + text numbered", 40e6, style="numbered", as_list=False),
    case(sokoban_text, "sokoban step + text compact", 50e6, style="compact", as_list=False),
    case(sokoban_text, "sokoban step + list[str]", 15e6, style="numbered", as_list=True),
    case(minesweeper_step, "minesweeper step", 100e6, style=None),
    case(minesweeper_step, "minesweeper step + text", 40e6, style="numbered"),
    sokoban_generation(6, 1, 2048, 300e3),
    sokoban_generation(6, 2, 1024, 100e3),
    sokoban_generation(8, 2, 256, 20e3),
    sokoban_generation(10, 2, 128, 7e3),
    minesweeper_generation("generate 6x6/3", 4096, 20e6),
    minesweeper_generation("generate 6x6/3, split train", 4096, 4e6, split="train"),
    minesweeper_generation("generate 6x6/3, split test", 4096, 4e6, split="test"),
    minesweeper_generation("no-guess 6x6/3", 2048, no_guess=True),
    minesweeper_generation("no-guess 6x6/3, split test", 2048, no_guess=True, split="test"),
    minesweeper_generation("no-guess 8x8/10", 256, no_guess=True, height=8, width=8, num_mines=10),
    case(restart, "sokoban restart", 100e6, game="sokoban", call="restart"),
    case(restart, "sokoban restore", 100e6, game="sokoban", call="restore"),
    case(restart, "minesweeper restart", 100e6, game="minesweeper", call="restart"),
    case(restart, "minesweeper restore", 100e6, game="minesweeper", call="restore"),
    case(latency, "16 boards, step + text arena", 4e-6, as_list=False),
    case(latency, "16 boards, step + list[str]", 8e-6, as_list=True),
    case(threads, "2 threads over 1, 16,384 boards", 1.8, num_boards=16_384),
    case(pool, "single environments, 64 boards, 2 workers", 10e3, num_boards=64, workers=2),
    case(memory, "memory of a 6x6 board with text", 192),
]


def bench(case: Case) -> list[Row]:
    rows = case.bench(case)
    return rows + [row for name, row in peers() if name == case.name]


if __name__ == "__main__":
    main(bench, CASES)
