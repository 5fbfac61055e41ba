"""How fast are steps and texts by each instruction set that this processor has, chosen at run time?

One core, 4,096 live boards of 6x6, numbered text, as in bench_envs.py. A wheel has all of them and takes the
best; a host without AVX-512 or AVX2 has the rate of its own line. Each level must give the golden digests.
"""

from __future__ import annotations

import json

from bench_envs import NUM_BOARDS, Played
from harness import Case, Row, compare, main

from lamer_fast import _C
from tests.envs.golden.record_digests import PATH, digest

GOALS = {("minesweeper", "avx2"): 30e6}


def has(level: str) -> bool:
    try:
        _C.set_simd_level(level)
    except ValueError:
        return False
    finally:
        _C.set_simd_level("best")
    return True


def bench(case: Case) -> list[Row]:
    played = Played(case.game)
    call = played.steps("numbered") if case.game == "sokoban" else played.steps_with_restarts("numbered")
    golden = json.loads(PATH.read_text())[case.game]
    _C.set_simd_level(case.level)
    try:
        return compare(
            {"ours": call},
            verify=lambda: _C.simd_level() == case.level and digest(case.game) == golden,
            work=16 * NUM_BOARDS,
            unit="steps/s",
            goal=case.goal,
        )
    finally:
        _C.set_simd_level("best")


CASES = [
    Case(name=f"{game} step + text numbered, {level}", game=game, level=level, goal=GOALS.get((game, level)))
    for level in ("scalar", "neon", "avx2", "avx512")
    if has(level)
    for game in ("sokoban", "minesweeper")
]

if __name__ == "__main__":
    main(bench, CASES)
