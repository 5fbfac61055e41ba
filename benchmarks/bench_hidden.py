"""How fast are the games whose rule is hidden, called from Python, with their texts? And their exact bounds?

One core, 4,096 live boards. Rates are per second of CPU time. Every case is gated: exchanged words make the
moves that the rule says, and numbers count the lines of the rule.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from bench_envs import NUM_BOARDS, Played, case
from harness import ROOT, Case, Row, compare, main

sys.path.insert(0, str(ROOT))
from lamer_fast import _C
from lamer_fast.config import resolve as recipe
from lamer_fast.envs import make
from lamer_fast.envs.native.controls import RULES
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import entry
from tests.envs.test_neighbours import every_cell, numbers

GOAL = 20e6  # steps with text a second and core
BYTES = 128  # more than any text has


def words_make_their_moves(config: dict[str, Any]) -> bool:
    batch, plain = make("sokoban", 500, **config), make("sokoban", 500, **SOKOBAN)
    for boards in (batch, plain):
        boards.reset(np.arange(500, dtype=np.uint64))
    words = np.random.default_rng(0).integers(0, 4, (500, 1), dtype=np.int32)
    batch.step(words)
    plain.step(RULES[batch.rules()[:, None], words].astype(np.int32))
    return [text.split("\n")[:6] for text in batch.texts()] == [text.split("\n") for text in plain.texts()]


def numbers_count_the_lines(config: dict[str, Any]) -> bool:
    batch = make("minesweeper", 50, **config)
    batch.reset(np.arange(50, dtype=np.uint64))
    for rule, symbols in zip(batch.rules().tolist(), every_cell(batch), strict=True):
        mines = set(np.flatnonzero(symbols == "*").tolist())
        right = numbers(batch.height, batch.width, mines, rule)
        if any(s != "*" and s != ".12345678"[right[cell]] for cell, s in enumerate(symbols)):
            return False
    return True


CHECKS = {"sokoban": words_make_their_moves, "minesweeper": numbers_count_the_lines}


def steps(case: Case) -> list[Row]:
    played = Played(case.game, **case.config)
    ours = played.steps(case.style) if case.game == "sokoban" else played.steps_with_restarts(case.style)
    if case.style:  # the line that says what a word did comes after it
        played.text = np.empty(BYTES * NUM_BOARDS, np.uint8), np.empty(NUM_BOARDS + 1, np.int64)

    def verify() -> bool:
        return CHECKS[case.game](case.config)

    rows = compare({"ours": ours}, verify=verify, work=16 * NUM_BOARDS, unit="steps/s", goal=case.goal)
    return [replace(row, note=f"instructions: {_C.simd_level()}") for row in rows]


def bounds(case: Case) -> list[Row]:
    """The bound on success@1..3 of so many boards, from nothing; it must rise with the episodes."""
    config = recipe.apply(recipe.load(case.recipe), case.settings)
    played = panel(config.env, "test", case.count)
    limits = config.rollout.max_turns, config.rollout.episodes

    def ours() -> Any:
        return entry(config.env.name).bound(config.env, "test", played.seeds, *limits)

    def verify() -> bool:
        found = ours()
        return bool(
            (np.diff(found, axis=1) >= -1e-12).all() and (found > 0).all() and (found <= 1 + 1e-12).all()
        )

    return compare({"ours": ours}, verify=verify, work=case.count, unit="boards/s")


SOKOBAN = {"height": 6, "width": 5, "num_boxes": 1, "min_moves": 2, "max_moves": 3}
HIDDEN = {"controls": "permuted", "show_moves": True}
BROKEN = {"controls": "broken", "show_moves": True}
STICKY = {"sticky": 0.25}
NEIGHBOURS = {"neighbours": "hidden"}


def stepping(name: str, game: str, config: dict[str, Any], style: str | None) -> Case:
    goal = GOAL if style else None
    name = f"{name}, step + text" if style else f"{name}, step"
    return case(steps, name, goal, game=game, config=config, style=style)


def bound(name: str, count: int, what: str = "", **settings: Any) -> Case:
    return case(bounds, f"bound of {name}{what}", recipe=name, count=count, settings=settings)


CASES = [
    stepping("sokoban, exchanged words", "sokoban", SOKOBAN | HIDDEN, None),
    stepping("sokoban, exchanged words", "sokoban", SOKOBAN | HIDDEN, "compact"),
    stepping("sokoban, one word broken", "sokoban", SOKOBAN | BROKEN, "compact"),
    stepping("sokoban, exchanged words that stick", "sokoban", SOKOBAN | HIDDEN | STICKY, "compact"),
    stepping("minesweeper, hidden lines", "minesweeper", NEIGHBOURS, None),
    stepping("minesweeper, hidden lines", "minesweeper", NEIGHBOURS, "numbered"),
    bound("hidden-controls-tiny", 512),
    bound("hidden-controls-tiny", 512, ", one word broken", **{"env.controls": "broken"}),
    bound("hidden-controls-tiny", 32, ", words that stick", **{"env.sticky": 0.25}),
    bound("hidden-neighbours-tiny", 64),
]


if __name__ == "__main__":
    main(lambda case: case.bench(case), CASES)
