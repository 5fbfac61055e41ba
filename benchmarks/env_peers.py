"""Times the peers of bench_envs.py, each if it is installed in the interpreter that runs this; prints JSON.

    python -m venv .venv-peers
    .venv-peers/bin/pip install gym-sokoban==0.0.6 textarena==0.7.4 jumanji==1.1.2 ms-toollib==1.5.20
    .venv-peers/bin/pip install setuptools==78.1.1  # gym-sokoban imports pkg_resources

`bench_envs.py` starts this file with `.venv-peers/bin/python`. Each peer plays by its own API in its best
known setting: Jumanji jitted and vmapped over 4,096 boards, its observation copied to numpy, the others one
board at a time. Rates are per second of CPU time of the whole process.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from harness import Row, compare

NUM_BOARDS = 4096
PEERS: list[Callable[[], Iterator[tuple[str, Row]]]] = []


def peer(function: Callable[[], Iterator[tuple[str, Row]]]) -> Callable[[], Iterator[tuple[str, Row]]]:
    PEERS.append(function)
    return function


def rate(
    name: str, call: Callable[[], object], work: float, unit: str, setup: Callable[[], object] | None = None
) -> Row:
    ran = lambda: True  # noqa: E731  (peers are not judged here: one that raises gives no number)
    return compare({name: call}, verify=ran, setup=setup, work=work, unit=unit, clock="process", repeats=7)[0]


@peer
def gym_sokoban() -> Iterator[tuple[str, Row]]:
    from gym_sokoban.envs.room_utils import generate_room
    from gym_sokoban.envs.sokoban_env import SokobanEnv

    def generate(size: int, boxes: int) -> object:
        while True:  # it raises, or gives a room of score 0, for some draws
            with contextlib.suppress(RuntimeError, RuntimeWarning):
                return generate_room(dim=(size, size), num_steps=int(1.7 * 2 * size), num_boxes=boxes)

    for size, boxes in ((6, 1), (6, 2)):
        row = rate("gym-sokoban", lambda s=size, b=boxes: generate(s, b), 1, "boards/s")
        yield f"sokoban generate {size}x{size}/{boxes}", row
    env = SokobanEnv(dim_room=(6, 6), num_boxes=2, max_steps=10**9)
    step = lambda: env.step(random.randrange(9), observation_mode="tiny_rgb_array")  # noqa: E731
    yield "sokoban step", rate("gym-sokoban (tiny RGB)", step, 1, "steps/s")


@peer
def textarena() -> Iterator[tuple[str, Row]]:
    from textarena.envs.Minesweeper.env import MinesweeperEnv
    from textarena.envs.Sokoban.env import SokobanEnv

    sokoban = SokobanEnv(dim_room=(6, 6), num_boxes=2, max_turns=10**9)
    mines = MinesweeperEnv(rows=6, cols=6, num_mines=3, max_turns=10**9)

    seed = lambda: random.randrange(10**6)  # noqa: E731
    moves = ("[up]", "[down]", "[left]", "[right]")

    def move() -> None:
        sokoban.step(random.choice(moves))
        sokoban.get_observation()

    def open_cell() -> None:
        done, _ = mines.step(f"[{random.randrange(6)} {random.randrange(6)}]")
        mines.get_observation()
        if done:
            mines.reset(num_players=1, seed=seed())

    def reset_sokoban() -> None:
        sokoban.reset(num_players=1, seed=seed())

    yield "sokoban generate 6x6/2", rate("textarena", reset_sokoban, 1, "boards/s")
    yield "sokoban step + list[str]", rate("textarena", move, 1, "steps/s", setup=reset_sokoban)
    mines.reset(num_players=1, seed=seed())
    yield "minesweeper step + text", rate("textarena", open_cell, 1, "steps/s")


@peer
def jumanji() -> Iterator[tuple[str, Row]]:
    import jax
    from jumanji.environments import Minesweeper, Sokoban
    from jumanji.environments.logic.minesweeper.generator import UniformSamplingGenerator
    from jumanji.environments.routing.sokoban.generator import ToyGenerator
    from jumanji.wrappers import VmapAutoResetWrapper, VmapWrapper

    rng = np.random.default_rng(0)
    keys = jax.random.split(jax.random.PRNGKey(0), NUM_BOARDS)

    def measure(name: str, env: object, actions: list[np.ndarray], grid: str) -> Row:
        reset, step = jax.jit(env.reset), jax.jit(env.step)
        state = [reset(keys)[0]]

        def start() -> None:
            state[0] = reset(keys)[0]

        def call() -> np.ndarray:
            state[0], timestep = step(state[0], actions[rng.integers(len(actions))])
            return np.asarray(getattr(timestep.observation, grid))

        return rate(name, call, NUM_BOARDS, "steps/s", setup=start)

    moves = [jax.numpy.asarray(rng.integers(0, 4, NUM_BOARDS), "int32") for _ in range(16)]
    env = VmapWrapper(Sokoban(generator=ToyGenerator()))
    yield "sokoban step", measure("jumanji (10x10/4)", env, moves, "grid")
    cells = [jax.numpy.asarray(rng.integers(0, 6, (NUM_BOARDS, 2)), "int32") for _ in range(16)]
    env = VmapAutoResetWrapper(Minesweeper(generator=UniformSamplingGenerator(6, 6, 3)))
    yield "minesweeper step", measure("jumanji (no cascade)", env, cells, "board")


@peer
def ms_toollib() -> Iterator[tuple[str, Row]]:
    import ms_toollib

    row = rate("ms-toollib", lambda: ms_toollib.laymine(6, 6, 3, 0, 0), 1, "boards/s")
    yield "minesweeper generate 6x6/3", row
    for size, mines in ((6, 3), (8, 10)):
        call = lambda s=size, m=mines: ms_toollib.laymine_solvable(s, s, m, 0, 0)  # noqa: E731
        yield f"minesweeper no-guess {size}x{size}/{mines}", rate("ms-toollib", call, 1, "boards/s")


def main() -> None:
    warnings.simplefilter("ignore")
    random.seed(0)
    np.random.seed(0)
    found: list[tuple[str, dict]] = []
    for measure in PEERS:
        noise = io.StringIO()
        try:
            with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
                found += [(case, asdict(row)) for case, row in measure()]
        except ImportError as error:
            print(f"{measure.__name__} is not installed ({error})", file=sys.stderr)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
