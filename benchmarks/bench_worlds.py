"""How fast are worlds of other packages through our boards and processes, and what does the pool cost?

`package`: the package alone, by its own calls, with the text that ours shows. `ours`: one of our boards in
this process. `pool`: 64 boards in two worker processes, texts included. Rates are turns a second, of CPU time
where one process plays, of the wall clock for the pool. A package that is not installed has no row:

    PYTHONPATH=.:kernels .venv-worlds/bin/python benchmarks/bench_worlds.py --json
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, Case, Row, compare, main, measured

sys.path.insert(0, str(ROOT))
from lamer_fast.envs.registry import default_options, entry, make_env

NUM_BOARDS, WORKERS = 64, 2
BABY = "minigrid:BabyAI-GoToRedBall-v0"


def alternating(names: list[str]) -> Callable[[], str]:
    state = [0]

    def choose() -> str:
        state[0] += 1
        return names[state[0] % len(names)]

    return choose


def gymnasium_alone(options: Any) -> Callable[[], Any]:
    import gymnasium

    describe = entry("gymnasium").board(options, None).describe
    mode = {} if describe else {"render_mode": "ansi"}
    env = gymnasium.make(options.id, **json.loads(options.arguments or "{}") | mode)
    env.reset(seed=0)
    action = alternating([0, 1])  # type: ignore[list-item]

    def call() -> Any:
        observation, _, terminated, truncated, _ = env.step(action())
        text = describe(observation) if describe else env.render()
        if terminated or truncated:
            env.reset(seed=0)
        return text

    return call


def textarena_alone(options: Any) -> Callable[[], Any]:
    import textarena

    game = textarena.make(f"{options.game}-raw")
    game.reset(num_players=1, seed=0)
    action = alternating(["[1 2 3 4]", "[4 3 2 1]"])

    def call() -> Any:
        done, _ = game.step(action())
        text = game.get_observation()
        if done:
            with contextlib.redirect_stdout(io.StringIO()):
                game.reset(num_players=1, seed=0)
        return text

    return call


def reasoning_gym_alone(options: Any) -> Callable[[], Any]:
    import reasoning_gym

    data = reasoning_gym.create_dataset(options.dataset, seed=0, size=options.size)
    item = data[0]
    return lambda: data.score_answer("1 + 2", item)


def textworld_alone(options: Any) -> Callable[[], Any]:
    import textworld

    wanted = textworld.EnvInfos(admissible_commands=True, won=True, lost=True, score=True, objective=True)
    env = textworld.start(str(next(Path(options.games).glob("*.z8"))), wanted)
    env.reset()
    action = alternating(["look", "inventory"])
    return lambda: env.step(action())


def world(case: Case) -> list[Row]:
    if find_spec(case.package) is None:
        print(f"{case.name}: the package {case.package} is not installed", file=sys.stderr)
        return []
    if case.world == "textworld":
        make_games(Path(GAMES))
    where = {"games": GAMES} if case.world == "textworld" else {}
    options = replace(default_options(case.world), workers=WORKERS, **case.changes | where)
    board = entry(case.world).board(options, None)
    reply = alternating([f"<action>{name}</action>" for name in case.replies])
    board.reset(0)

    def call() -> None:
        if board.step(reply()).done:
            board.restart()
        board.observe()

    def again() -> bool:
        """The first text and turn come back after a restart."""
        board.restart()
        text, turn = board.observe(), board.step(f"<action>{case.replies[0]}</action>")
        board.restart()
        return board.observe() == text and turn == board.step(f"<action>{case.replies[0]}</action>")

    providers = {"ours": call, "package": case.alone(options)}
    rows = compare(providers, verify=again, work=1, unit="turns/s", clock="process", repeats=9)
    return rows + pool_rate(options, case)


def pool_rate(options: Any, case: Case) -> list[Row]:
    env = make_env(options, NUM_BOARDS, split=None)
    boards = np.arange(NUM_BOARDS)
    env.reset(boards.astype(np.uint64))
    replies = [f"<action>{case.replies[i % len(case.replies)]}</action>" for i in boards]

    def call() -> None:
        out = env.step(replies, boards)
        env.observe(boards)
        if out.done.any():
            env.restart(boards[out.done])

    def verify() -> bool:
        return env.step(replies, boards).error == [None] * NUM_BOARDS

    rows = compare(
        {"pool": call}, verify=verify, work=NUM_BOARDS, unit="turns/s", clock="wall", repeats=9, burst_s=0.2
    )
    return rows


def overhead(case: Case) -> list[Row]:
    """Of boards that do nothing. An idle machine takes at most what trainer and busiest worker work."""
    options = replace(default_options("benchmarks.bench_envs:Echo"), workers=WORKERS)
    env: Any = make_env(options, NUM_BOARDS, split=None)
    boards, replies = np.arange(NUM_BOARDS), ["<action>(1, 2)</action>"] * NUM_BOARDS
    env.reset(boards.astype(np.uint64))
    busy: list[float] = []

    def call() -> None:
        before = cpu_seconds(env)
        env.step(replies, boards)
        env.observe(boards)
        trainer, *workers = (after - b for after, b in zip(cpu_seconds(env), before, strict=True))
        busy.append((trainer + max(workers)) / NUM_BOARDS)

    def verify() -> bool:
        return bool((env.step(replies, boards).rewards == len(replies[0])).all())

    (wall,) = compare({"wall time": call}, verify=verify, clock="wall", repeats=25, burst_s=0.05)
    ours = measured("ours", busy, "CPU time", "s", check=wall.check, goal=case.goal)
    ours.note = "of the trainer and the busiest worker"
    if wall.p20 is not None and wall.p50 is not None and wall.p80 is not None:
        wall.p20, wall.p50, wall.p80 = (s / NUM_BOARDS for s in (wall.p20, wall.p50, wall.p80))
    wall.note = "as loaded as the machine was"
    return [ours, wall]


def cpu_seconds(env: Any) -> list[float]:
    """Of this process and the workers, so far."""
    pids = [worker.process.pid for worker in env._workers]
    spent = [int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 for pid in pids]
    return [time.process_time(), *spent]


def share(case: Case) -> list[Row]:
    """Of the seconds of an iteration, those in which the sampler waits for FrozenLake's boards."""
    from lamer_fast import cli
    from tests.tiny import tiny_model, tiny_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        tiny_model().save_pretrained(f"{folder}/model")
        tiny_tokenizer().save_pretrained(f"{folder}/model")
        flags = {
            "model.path": f"{folder}/model", "model.dtype": "float32", "rollout.groups": 4,
            "rollout.max-reply-tokens": 8, "rollout.max-reflection-tokens": 8, "rollout.max-turns": 6,
            "eval.every": 0, "train.iterations": 4, "train.num-threads": 1, "train.device": "cpu",
            "env.workers": WORKERS, "env.prompt": "compact",
        }  # fmt: skip
        argv = ["train", "frozenlake-qwen3-0.6b", "--runs", folder, "--name", "run"]
        for name, value in flags.items():
            argv += [f"--{name}", str(value)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = cli.main(argv)
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    shares = [r["seconds"]["env"] / sum(r["seconds"].values()) for r in records[1:]]
    check = "passed" if status == 0 and len(records) == 4 else "FAILED"
    note = "32 trials, 8 tokens a reply, a model of 30 k parameters on one thread"
    return [measured("ours", shares, "time in the environment", "share of time", check=check, note=note)]


def make_games(folder: Path) -> None:
    import subprocess

    folder.mkdir(exist_ok=True, parents=True)
    program = str(Path(sys.executable).with_name("tw-make"))
    for seed in range(3):
        path = folder / f"{seed}.z8"
        if not path.exists():
            made = [program, "custom", "--world-size", "2", "--nb-objects", "4", "--quest-length", "2"]
            subprocess.run(
                [*made, "--seed", str(seed), "--output", str(path)], check=True, capture_output=True
            )


def case(bench: Callable[[Case], list[Row]], name: str, goal: float | None = None, **params: Any) -> Case:
    return Case(bench=bench, name=name, goal=goal, **params)


GAMES = str(Path(tempfile.gettempdir()) / "lamer-fast-bench-games")
DRY = {"id": "FrozenLake-v1", "arguments": '{"map_name": "4x4", "is_slippery": false}'}
CASES = [
    case(
        world, "Gymnasium FrozenLake", world="gymnasium", package="gymnasium", alone=gymnasium_alone,
        changes=DRY, replies=["left", "up"],
    ),
    case(
        world, "Gymnasium Taxi", world="gymnasium", package="gymnasium", alone=gymnasium_alone,
        changes={"id": "Taxi-v4"}, replies=["south", "north"],
    ),
    case(
        world, "MiniGrid BabyAI-GoToRedBall", world="gymnasium", package="minigrid", alone=gymnasium_alone,
        changes={"id": BABY}, replies=["turn left", "turn right"],
    ),
    case(
        world, "TextArena Mastermind", world="textarena", package="textarena", alone=textarena_alone,
        changes={"game": "Mastermind-v0"}, replies=["1 2 3 4", "4 3 2 1"],
    ),
    case(
        world, "reasoning-gym countdown", world="reasoning-gym", package="reasoning_gym",
        alone=reasoning_gym_alone, changes={"answers": 1000}, replies=["1 + 2"],
    ),
    case(
        world, "TextWorld, 2 rooms", world="textworld", package="textworld", alone=textworld_alone,
        changes={"max_steps": 10_000}, replies=["look", "inventory"],
    ),
    case(overhead, "the pool a turn, 64 boards, 2 workers", 100e-6),
    case(share, "waiting for FrozenLake in an iteration"),
]  # fmt: skip


def bench(case: Case) -> list[Row]:
    return case.bench(case)


if __name__ == "__main__":
    main(bench, CASES)
