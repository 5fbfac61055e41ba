"""ALFWorld as its package plays it: the same task again, hostile replies, workers that end."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("alfworld", reason="the package alfworld is not installed")

from lamer_fast.envs import check_env
from lamer_fast.envs.adapters.alfworld.board import Board, new_env
from lamer_fast.envs.adapters.alfworld.games import games
from lamer_fast.envs.adapters.alfworld.generate import shipped
from lamer_fast.envs.adapters.alfworld.tasks import BY_WORD, TASK_TYPES
from lamer_fast.envs.examine import Examination, examine
from lamer_fast.envs.registry import default_options, make_env
from tests.envs.golden import record_alfworld

pytestmark = pytest.mark.slow
GOLDEN = record_alfworld.load()
ROOT = Path(__file__).parents[2]
ALL = ",".join(BY_WORD)


@pytest.fixture(autouse=True)
def back_to_this_folder(monkeypatch):
    """A board works in a folder of its own."""
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setenv("TMPDIR", os.environ.get("TMPDIR", "/tmp"))


def options(**changes):
    chosen = replace(default_options("alfworld"), engine="package", data="made:small", task_types=ALL)
    return replace(chosen, **{"workers": 2, "wait_for_all": True} | changes)


def board(size="small", split="train", word="pick", index=0):
    names = [f"{split}/{BY_WORD[word].name}/{index:05d}"]
    return Board(games(f"made:{size}"), names, "full")


@pytest.fixture(scope="module")
def env():
    """Boards load one game after the other."""
    return new_env()


def replay(env, held, walk):
    """The walk of a recording as our boards' environment plays it, and the recording."""
    state, score, steps = env.reset(), 0, []
    for command, *_ in walk["steps"]:
        if command is not None:
            state, score, _ = env.step(command)
        steps.append([command, state.feedback, state["admissible_commands"], int(score), bool(state["won"])])
    return steps, [[c, t, held["menus"][menu], s, w] for c, t, menu, s, w in walk["steps"]]


@pytest.mark.parametrize("held", GOLDEN["games"], ids=lambda g: f"{g['size']}-{g['split']}-{g['task']}")
def test_caches_change_no_text_command_or_score(env, held):
    """The recordings were made without them, in a process with another hash seed."""
    env.load(record_alfworld.content(*(held[key] for key in ("size", "split", "task", "index"))))
    for walk in held["walks"]:
        ours, recorded = replay(env, held, walk)
        assert ours == recorded, walk["kind"]


def test_the_rules_and_words_that_ship_are_the_packages():
    for name in ("alfred.pddl", "alfred.twl2"):
        assert shipped(name) == (files("alfworld") / "data" / name).read_text()


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("task", TASK_TYPES, ids=lambda task: task.word)
def test_our_plan_wins_and_the_planner_finds_one_that_is_not_longer(task, size):
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv

    played = board(size, "valid_unseen", task.word, 5)
    content = played.games.content(played.names[0])
    played.reset(0)
    turns = [played.step(f"<action>{command}</action>") for command in content["walkthrough"]]
    assert [t.success for t in turns] == [False] * (len(turns) - 1) + [True]
    assert [t.reward for t in turns] == [0.0] * (len(turns) - 1) + [10.0]

    env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, policy_commands=True)), shuffle=False)
    env.load(content)
    planned = env.reset()["policy_commands"]
    assert planned
    for command in planned:
        state, _, _ = env.step(command.strip())
    assert state["won"]


def seen(played):
    return played.observe(), played.legal_actions(), played.task(), played.task_text()


def test_restart_gives_the_same_task_from_any_state():
    """Over K episodes, whatever was done before, and as a new board in another process plays it."""
    for word in BY_WORD:
        played = board("full", "train", word, 3)
        played.reset(0)
        first, stories = seen(played), []
        rng = np.random.default_rng(1)
        replies = [str(rng.choice(played.legal_actions())) for _ in range(4)]
        for episode in range(3):
            played.restart()
            assert seen(played) == first
            story = []
            for reply in [*replies, "<action>look</action>", "<action>inventory</action>"]:
                story.append((played.step(reply), *seen(played)))
            stories.append(story)
            for _ in range(episode):  # on to another state
                if played.legal_actions():
                    played.step(str(rng.choice(played.legal_actions())))
        assert stories[0] == stories[1] == stories[2]


def test_boards_of_one_process_do_not_change_each_other():
    one, other, alone = board(word="heat"), board(word="pick2"), board(word="heat")
    for played in (one, other, alone):
        played.reset(0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        reply = str(rng.choice(alone.legal_actions()))
        assert alone.step(reply) == one.step(reply) and seen(alone) == seen(one)
        other.step(str(rng.choice(other.legal_actions())))


HOSTILE = [
    "", "no tags", "<action></action>", "<action> \n </action>", "<action>look\0</action>",
    "<action>\ud800</action>",
    "<action>save</action>", "<action>restart</action>", "<action>quit</action>", "<action>script</action>",
    "<action>go to\tnowhere</action>", "<action>" + "a" * 1_000_000 + "</action>", "x" * 1_000_000,
    "<action>посмотри вокруг</action>", "<action>\x1b[2Jlook</action>", "<action>#look.feedback#</action>",
    "<action>{r.name}</action>", "<action>help</action>",
]  # fmt: skip


def test_hostile_replies_change_nothing_and_write_nothing(tmp_path):
    played = board(word="clean")
    played.reset(0)
    os.chdir(tmp_path)
    before = played.legal_actions()
    for reply in HOSTILE:
        turn = played.step(reply)
        assert (turn.reward, turn.done, turn.success) == (0.0, False, False)
        assert played.legal_actions() == before
    assert not list(tmp_path.iterdir())
    assert not played.step("<action>look\0</action>").valid and played.step("<action>  LOOK </action>").valid
    assert played.observe().startswith("You are in the middle of a room")
    played.step("<action>save</action>")
    assert played.observe() == "Nothing happens."


def test_a_worker_leaves_no_folder_behind(tmp_path):
    code = (
        "from lamer_fast.envs.adapters.alfworld.board import scratch; import os\n"
        "print(scratch()); assert os.getcwd() == scratch(); open('left', 'w').close()"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.startswith(str(tmp_path)) and not list(tmp_path.iterdir())


def test_the_environment_keeps_the_protocol():
    env = make_env(options(), 4, split="train")
    assert check_env(env, num_turns=6, make=lambda n: make_env(options(), n, split="train")) == []


def test_envs_check_finds_nothing():
    found = examine(options(), Examination(num_turns=6, num_boards=4, timeout_s=600))
    assert not found.violations and found.turns_per_s > 0


def test_a_worker_that_is_killed_costs_one_trial_and_the_others_go_on():
    env = make_env(options(), 4, split="train")
    boards = np.arange(4)
    env.reset(np.arange(4, dtype=np.uint64))
    for _ in range(3):
        env.step([actions[0] for actions in env.legal_actions(boards)], boards)
    before = env.observe(boards), env.legal_actions(boards)
    os.kill(env._workers[0].process.pid, signal.SIGKILL)
    replies = [actions[-1] for actions in before[1]]
    out = env.step(replies, boards)
    lost = [i for i, error in enumerate(out.error) if error]
    assert len(lost) <= 1 and set(lost) <= {0, 2}
    alike = make_env(options(), 4, split="train")
    alike.reset(np.arange(4, dtype=np.uint64))
    for _ in range(3):
        alike.step([actions[0] for actions in alike.legal_actions(boards)], boards)
    alike.step(replies, boards)
    left = np.array([i for i in range(4) if i not in lost])
    assert env.observe(left) == alike.observe(left)
    env.reset(np.arange(4, dtype=np.uint64))
    assert env.observe(boards)[0]


def test_a_broken_game_costs_its_trial_and_is_named(tmp_path):
    from lamer_fast.envs.adapters.alfworld.generate import write_games

    write_games(tmp_path, "small", {"train": 1})
    broken = next((tmp_path / "train").glob("pick_heat*/*/game.tw-pddl"))
    content = json.loads(broken.read_text())
    content["pddl_problem"] = content["pddl_problem"].replace("(:goal", "(:gaol")
    broken.write_text(json.dumps(content))
    env = make_env(options(data=str(tmp_path)), 6, split="train")
    env.reset(np.arange(6, dtype=np.uint64))
    boards = np.arange(6)
    out = env.step(["<action>look</action>"] * 6, boards)
    assert sum(error is not None for error in out.error) == 1


def test_a_worker_that_hangs_costs_its_trial_alone():
    env = make_env(options(timeout_s=20.0), 2, split="train")
    env.reset(np.arange(2, dtype=np.uint64))
    os.kill(env._workers[0].process.pid, signal.SIGSTOP)
    out = env.step(["<action>look</action>"] * 2, np.arange(2))
    assert out.error[1] is None and out.error[0] is not None and "no answer for 20 s" in out.error[0]
    env.reset(np.arange(2, dtype=np.uint64))
    assert env.step(["<action>look</action>"] * 2, np.arange(2)).error == [None, None]
