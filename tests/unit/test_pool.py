"""Boards of a single environment in worker processes: the same games whatever happens to the processes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs import check_env
from lamer_fast.envs.contract import BoardsLost, EnvError
from lamer_fast.envs.options import EnvOptions, PoolOptions
from lamer_fast.envs.pool_worker import SNAPSHOT_TURNS
from lamer_fast.envs.registry import default_options, entry, make_env
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.collect import collect_trials
from tests.scripted import ScriptedSampler
from tests.single_env import FAULTS, Hunt
from tests.single_env import Options as HuntOptions
from tests.tiny import tiny_tokenizer

ROOT = Path(__file__).parents[2]
NAME = "tests.single_env:Hunt"
SEEDS = np.arange(100, dtype=np.uint64) * 7919


def pool(num_envs, split=None, **options):
    return make_env(replace(default_options(NAME), **options), num_envs, split=split)


def games(env, turns=6):
    """Everything that boards show and pay in two episodes of guesses."""
    every = np.arange(env.num_envs)
    env.reset(SEEDS[: env.num_envs])
    story = [env.observe(every), env.tasks(every).tolist(), env.anchors(every).tolist()]
    for turn in range(2 * turns):
        if turn == turns:
            env.restart(every)
        out = env.step([str((i + turn) % 9) for i in every], every)
        story += [out.rewards.tolist(), out.done.tolist(), env.observe(every), env.anchors(every).tolist()]
    return [list(board) for board in zip(*story, strict=True)]


def test_it_is_an_environment_like_any_other():
    env = pool(5, "train", workers=2)
    assert check_env(env, make=lambda num_envs: pool(num_envs, "train", workers=2)) == []


def test_games_do_not_depend_on_the_workers():
    one = games(pool(7, workers=1))
    assert games(pool(7, workers=3)) == one
    assert games(pool(3, workers=2)) == one[:3], "nor on the boards beside them"
    assert len({str(board) for board in one}) == 7


def test_an_expert_of_a_single_board():
    """It is asked for boards that are named, in any order, and its draws are not those of the game."""
    env, every = pool(6, workers=2), np.arange(6)
    env.reset(SEEDS[:6])
    numbers = [str(n) for n in env.tasks(every).tolist()]
    some = np.array([4, 1, 5])
    assert env.expert_replies(some, 0.0, SEEDS[:3]) == [numbers[i] for i in some]
    noisy = env.expert_replies(every, np.full(6, 1.0, np.float32), SEEDS[:6])
    assert noisy == env.expert_replies(every, 1.0, SEEDS[:6]) and set(noisy) <= set("1234")
    assert env.expert_notes(some) == ["it was not 0"] * 3

    silent, asked = pool(3, workers=2), pool(3, workers=2)
    for one in (silent, asked):
        one.reset(SEEDS[:3])
    for _ in range(3):
        asked.expert_replies(every[:3], 0.0, SEEDS[:3])
        for one in (silent, asked):
            one.step(["7"] * 3, every[:3])
        assert asked.observe(every[:3]) == silent.observe(every[:3])
    assert asked.step(asked.expert_replies(every[:3], 0.0, SEEDS[:3]), every[:3]).success.all()


def test_an_expert_that_fails_costs_its_board_alone():
    env, every = pool(4, workers=2), np.arange(4)
    env.reset(SEEDS[:4])
    env.step(["1", "1", "no teacher", "1"], every)
    said = env.expert_replies(every, 0.0, SEEDS[:4])
    assert said[2] == "" and all(said[i] for i in (0, 1, 3))
    errors = env.step(["2"] * 4, every).error
    assert errors[2] == "expert() returned a value of type NoneType, expected a text"
    assert [errors[i] for i in (0, 1, 3)] == [None] * 3


@pytest.mark.parametrize("name", ["Hunt", "SavedHunt"])
def test_a_board_is_rebuilt_from_its_last_snapshot(tmp_path, name):
    """Where there are snapshots the last two of 18 turns are played again; games go on as if undisturbed."""
    lines = tmp_path / "lines"
    options = replace(default_options(f"tests.single_env:{name}"), workers=1, highest=10**6)
    env = make_env(replace(options, pids=str(lines)), 4, split=None)
    calm = make_env(options, 4, split=None)
    every = np.arange(4)
    for one in (env, calm):
        one.reset(SEEDS[:4])
        for turn in range(SNAPSHOT_TURNS + 2):
            one.step([str(turn + i) for i in every], every)
    before = lines.read_text().count("played")
    assert env.step(["1", "1", "_exit", "1"], every).error[2].startswith("step(): its process ended")
    calm.step(["1"] * 4, every)
    if name == "SavedHunt":
        under_way = 4 + 2  # boards 0 and 1 had played this turn when the process of board 2 ended
        assert lines.read_text().count("played") - before == under_way + 3 * 2
    others = np.array([0, 1, 3])
    for one in (env, calm):
        one.step(["5"] * 3, others)
    assert env.observe(others) == calm.observe(others)
    for one in (env, calm):
        one.restart(others)
        one.step(["6"] * 3, others)
    assert env.observe(others) == calm.observe(others)


def test_a_snapshot_of_the_batch_is_that_of_its_boards(tmp_path):
    lines = tmp_path / "lines"
    lines.touch()
    options = replace(default_options("tests.single_env:SavedHunt"), workers=2, highest=10**6)
    first, second = (make_env(o, 3, split=None) for o in (options, replace(options, pids=str(lines))))
    every = np.arange(3)
    first.reset(SEEDS[:3])
    for turn in range(5):
        first.step([str(turn + i) for i in every], every)
    number = str(first.tasks(every)[1])
    first.step(["1", number, "3"], every)
    data = first.snapshot(every)
    assert data == first.snapshot(every), "asking changes nothing"
    second.restore(data, every)
    assert "played" not in lines.read_text(), "no reply is played again"
    for _ in range(2):
        outs = [one.step(["2"] * 3, every) for one in (first, second)]
        assert outs[0].done.tolist() == outs[1].done.tolist() == [False, True, False]
        assert first.observe(every) == second.observe(every)
        assert first.legal_actions(every) == second.legal_actions(every)
    for one in (first, second):
        one.restart(every)
        one.step(["7"] * 3, every)
    assert first.observe(every) == second.observe(every), "dice too"
    assert check_env(make_env(options, 3, split=None)) == []

    first.step(["no snapshot", "1", "1"], every)
    with pytest.raises(BoardsLost, match=r"snapshot\(\) returned a value of type str, expected bytes"):
        first.snapshot(every)
    assert len(json.loads(first.snapshot(every[1:]))) == 2


def test_its_settings():
    options = recipe.resolve(
        "minesweeper-tiny", ["--env.name", NAME, "--env.workers=3", "--env.highest=9"]
    ).env
    assert (options.workers, options.highest, options.timeout_s) == (3, 9, 60.0)
    assert entry(NAME).summary(options) == f"{NAME} (highest 9, fails never, pids )"
    assert hasattr(pool(2), "submit") and not hasattr(pool(2, wait_for_all=True), "submit")
    tasks = []
    for split in ("train", "valid"):
        env = pool(8, split, highest=1000)
        env.reset(SEEDS[:8])
        tasks.append(set(env.tasks(np.arange(8)).tolist()))
    assert not tasks[0] & tasks[1]


def bare(options: EnvOptions):
    return Hunt(HuntOptions())


@dataclass(frozen=True)
class Derived(EnvOptions):
    highest: int = 7


def derived(options: Derived):
    return Hunt(HuntOptions(options.highest))


def test_options_may_derive_from_those_of_every_environment():
    assert entry(f"{__name__}:bare").options is PoolOptions
    options = default_options(f"{__name__}:derived")
    assert isinstance(options, Derived) and isinstance(options, PoolOptions)


RENDERER = ChatRenderer(tiny_tokenizer())


def trials_of(env, replies, **rollout):
    config = Config()
    rollout = replace(config.rollout, **{"max_turns": 4, "max_reply_tokens": 20, **rollout})
    config = replace(config, env=replace(config.env, prompt="compact"), rollout=rollout)
    sampler = ScriptedSampler(RENDERER, replies)
    boards = Boards(SEEDS[: env.num_envs], np.arange(env.num_envs, dtype=np.int32) // 2)
    return collect_trials(sampler, env, Agent(RENDERER, env, config), boards, rollout, seed=3)


@pytest.mark.parametrize("fault", ["_exit", "abort", "hang", "close"])
def test_a_worker_that_is_gone_costs_one_trial(fault):
    """64 boards on 2 workers; the others' trials are those of an undisturbed run."""
    reply = lambda trial, n: str((trial + n) % 9)  # noqa: E731
    guilty = lambda trial, n: fault if (trial, n) == (6, 6) else reply(trial, n)  # noqa: E731
    undisturbed = trials_of(pool(64, workers=2, highest=30), reply)
    disturbed = trials_of(pool(64, workers=2, highest=30, timeout_s=2.0), guilty)
    assert not undisturbed.errors and list(disturbed.errors) == [6]
    assert disturbed.errors[6].startswith("step(): "), disturbed.errors
    assert ("no answer for 2 s" if fault == "hang" else "its process ended") in disturbed.errors[6]
    kept = undisturbed.trial != 6
    for name in ("tokens", "rewards", "done", "success", "anchors", "episode", "turn"):
        values = getattr(undisturbed, name)
        if name == "tokens":
            spans = list(zip(undisturbed.cu_seqlens, undisturbed.cu_seqlens[1:], strict=False))
            values = np.concatenate([values[a:b] for i, (a, b) in enumerate(spans) if i != 6])
        else:
            values = values[kept]
        np.testing.assert_array_equal(getattr(disturbed, name), values, err_msg=name)


def test_a_worker_killed_from_outside_costs_nothing(tmp_path):
    env, every = pool(6, workers=2, pids=str(tmp_path / "pids")), np.arange(6)
    env.reset(SEEDS[:6])
    env.step(["3"] * 6, every)
    before = env.observe(every)
    for pid in set((tmp_path / "pids").read_text().split()):
        os.kill(int(pid), signal.SIGKILL)
    time.sleep(0.1)
    env.restart(every[3:])
    assert env.observe(every[:3]) == before[:3]
    out = env.step(["3"] * 6, every)
    assert out.error == [None] * 6
    assert env.observe(every[3:]) == before[3:], "an episode started anew"


def test_a_slow_board_stops_no_other():
    env, others = pool(4, workers=2), np.array([1, 3])
    env.reset(SEEDS[:4])
    started = time.monotonic()
    env.submit(["sleep 2", "0", "0", "0"], np.arange(4))
    turns = 0
    while time.monotonic() - started < 1.5:
        boards, out = env.poll(0.5)
        assert set(boards.tolist()) <= {1, 3} and out.error == [None] * len(boards)
        turns += len(boards)
        env.submit(["0"] * len(boards), boards)
        env.observe(others)
    assert turns > 20
    late = set()
    while not late >= {0, 2}:
        late |= set(env.poll(5.0)[0].tolist())
    assert 1.9 < time.monotonic() - started < 10


def test_the_others_are_sampled_while_a_board_sleeps():
    waits = trials_of(pool(4, workers=2), lambda trial, n: "sleep 2" if (trial, n) == (0, 0) else "0")
    assert waits.num_turns == 4 * 14 and not waits.errors


def test_time_in_which_nobody_listens_does_not_count():
    env = pool(2, workers=1, timeout_s=0.5)
    env.reset(SEEDS[:2])
    env.submit(["1", "1"], np.arange(2))
    time.sleep(1.0)
    assert env.poll(0.0)[1].error == [None] * 2


ENDS_THE_PROCESS = ("_exit", "abort", "hang", "close", "garbage")


@pytest.fixture(scope="module")
def shared():
    return pool(4, workers=2, timeout_s=2.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_costs_its_board_alone(shared, fault):
    env, every, others = shared, np.arange(4), np.array([0, 1, 3])
    env.reset(SEEDS[:4])
    env.step(["2"] * 4, every)
    out = env.step(["3", "3", fault, "3"], every)
    assert [error is None for error in out.error] == [True, True, False, True], out.error
    assert out.done.tolist()[2] and out.rewards[2] == 0 and len(out.error[2]) < 500
    again = env.step(["4"] * 4, every)
    assert again.error == [None, None, out.error[2], None]
    with pytest.raises(BoardsLost) as lost:
        env.observe(every)
    assert lost.value.errors == {2: out.error[2]}
    texts = env.observe(others)
    env.reset(SEEDS[2:3], np.array([2]))
    assert env.observe(others) == texts and "luck" in env.observe(every)[2]
    assert ("process" in out.error[2]) == (fault in ENDS_THE_PROCESS)


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("making", r"tests.single_env:Hunt' raised OSError: no levels \(single_env.py:"),
        ("members", r"Hunt has no restart\(\)"),
        ("prompt", r"task_prompt\(\) returned a value of type NoneType, expected a text"),
        ("starting", r"cannot be made in a process of its own: its process ended \(exit status 7\)"),
    ],
)
def test_what_cannot_be_made_is_told_at_once(fails, message):
    with pytest.raises(EnvError, match=message):
        pool(2, fails=fails)


def test_what_fails_without_a_reply_is_told_of_its_boards():
    env, every = pool(4, fails="reset"), np.arange(4)
    env.reset(np.arange(4, dtype=np.uint64))
    assert env.step(["1"] * 4, every).error[1].startswith("reset() raised RuntimeError: no such level")
    assert env.step(["1"] * 4, every).error[::2] == [None, None]
    env = pool(2, fails="restart")
    env.reset(SEEDS[:2])
    env.restart(np.array([1]))
    said = env.step(["1"] * 2, np.arange(2)).error
    assert said == [None, "restart() does not give the state that reset() left"]
    env = pool(2, workers=1, fails="pid")
    env.reset(SEEDS[:2])
    said = env.step(["_exit", "1"], np.arange(2)).error
    assert said[1] == "in another process the same seed and replies led to another state"


PARENT = """
import sys, numpy as np
sys.path[:0] = [".", "kernels"]
from dataclasses import replace
from lamer_fast.envs.registry import default_options, make_env
env = make_env(replace(default_options("tests.single_env:Hunt"), workers=2, pids=sys.argv[1]), 4, split=None)
env.reset(np.arange(4, dtype=np.uint64))
print("ready", flush=True)
env.step(["1", "hang", "1", "1"], np.arange(4))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_trainer(tmp_path, number):
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", PARENT, str(pids)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        parent.send_signal(number)
        assert parent.wait(20) != 0
        assert parent.stdout.read() == b"", "no worker holds its output, and nothing was printed"
    workers = {int(pid) for pid in pids.read_text().split()}
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while workers and time.monotonic() < deadline:
        for pid in list(workers):
            with suppress(FileNotFoundError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    continue
            workers.remove(pid)
        time.sleep(0.02)
    assert not workers
