"""ALFWorld's native boards: equal to the package's recordings, and what every environment has to keep."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast import _C, cli
from lamer_fast.envs import check_env
from lamer_fast.envs.adapters.alfworld.compiler.game import compile_game
from lamer_fast.envs.adapters.alfworld.expert import player_of
from lamer_fast.envs.adapters.alfworld.generate import game, write_games
from lamer_fast.envs.adapters.alfworld.native import NativeAlfworld
from lamer_fast.envs.adapters.alfworld.tasks import BY_WORD, TASK_TYPES
from lamer_fast.envs.contract import BoardsLost
from lamer_fast.envs.registry import default_options, entry, make_env
from tests.envs.golden import record_alfworld

ALL = ",".join(BY_WORD)
GOLDEN = record_alfworld.load()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def options(**changes):
    return replace(default_options("alfworld"), **({"data": "made:small", "task_types": ALL} | changes))


@pytest.mark.parametrize("held", GOLDEN["games"], ids=lambda g: f"{g['size']}-{g['split']}-{g['task']}")
def test_every_text_command_and_score_is_the_packages(held):
    made = record_alfworld.content(*(held[key] for key in ("size", "split", "task", "index")))
    assert record_alfworld.digest(made) == held["digest"], "record_alfworld.py has to be run again"
    native, batch = _C.AlfworldGame(compile_game(made)), _C.AlfworldBatch(1)
    for walk in held["walks"]:
        batch.reset([native])
        for turn, (command, text, menu, score, won) in enumerate(walk["steps"]):
            if command is not None:
                # the package takes white space around a command off
                assert not batch.step([command.strip()])[3][0]
            where = held["task"], walk["kind"], turn, command
            assert batch.texts() == [text], where
            done, success = batch.flags()
            assert (bool(success[0]), bool(done[0]), int(success[0])) == (won, won, score), where
            replies = [] if won else [f"<action>{c}</action>" for c in held["menus"][menu]]
            assert batch.replies() == [replies], where


def test_the_recordings_have_every_type_and_thousands_of_turns():
    assert {held["task"] for held in GOLDEN["games"]} == set(BY_WORD)
    assert sum(len(walk["steps"]) for held in GOLDEN["games"] for walk in held["walks"]) > 2000


def test_the_environment_keeps_the_protocol():
    env = make_env(options(), 4, split="train")
    assert isinstance(env, NativeAlfworld)
    assert check_env(env, num_turns=8, make=lambda n: make_env(options(), n, split="train")) == []


def look(env, boards):
    return (
        env.observe(boards),
        env.legal_actions(boards),
        env.anchors(boards).tolist(),
        env.task_texts(boards),
    )


def test_restart_and_snapshots_from_any_state():
    B = 12
    env, other = (make_env(options(), B, split="valid") for _ in range(2))
    boards, rng = np.arange(B), random.Random(0)
    env.reset(np.arange(B, dtype=np.uint64))
    start = look(env, boards)
    assert len(set(env.tasks(boards).tolist())) == B
    for _ in range(4):
        for _ in range(rng.randrange(1, 12)):
            env.step([rng.choice(menu) if menu else "" for menu in env.legal_actions(boards)], boards)
        other.restore(env.snapshot(boards), boards)
        assert look(other, boards) == look(env, boards)
        replies = [rng.choice(menu) if menu else "" for menu in env.legal_actions(boards)]
        first, second = env.step(replies, boards), other.step(replies, boards)
        assert first.done.tolist() == second.done.tolist() and look(other, boards) == look(env, boards)
        env.restart(boards)
        assert look(env, boards) == start
    for bad in (b"", b"[]\n", b'["x"]\n', env.snapshot(boards)[:-1], env.snapshot(boards[:3])):
        with pytest.raises(ValueError, match="snapshot"):
            other.restore(bad, boards)


def test_replies_that_are_no_commands():
    env = make_env(options(), 1, split="train")
    one = np.zeros(1, np.int64)
    env.reset(np.zeros(1, np.uint64))
    start = look(env, one)
    for reply in ("", "no tags", "<action></action>", "<action>\0</action>", "<action>\ud800</action>"):
        out = env.step([reply], one)
        assert not out.valid[0] and not out.done[0] and out.error == [None] and look(env, one) == start
    out = env.step(["<action>save</action>"], one)
    assert out.valid[0] and env.observe(one) == ["Nothing happens."]
    assert env.step(["I <action>  LOOK\n</action> now"], one).valid[0]
    assert env.observe(one)[0].startswith("You are in the middle of a room")
    assert "<action>help</action>" not in env.legal_actions(one)[0]
    env.step(["<action>help</action>"], one)
    assert env.observe(one)[0].startswith("Available commands:")


def test_a_win_pays_once_and_stays():
    env = make_env(options(data="made:full", task_types="pick2"), 2, split="train")
    boards = np.arange(2)
    env.reset(np.zeros(2, np.uint64))
    rewards = []
    for move in game("full", "train", BY_WORD["pick2"], _index(env.names[0])).content["walkthrough"]:
        out = env.step([f"<action>{move}</action>", "<action>look</action>"], boards)
        rewards.append(out.rewards.tolist())
    assert [r[0] for r in rewards] == [0.0] * (len(rewards) - 1) + [10.0]
    assert out.success.tolist() == out.done.tolist() == [True, False] and not any(r[1] for r in rewards)
    again = env.step(["<action>look</action>"] * 2, boards)
    assert again.rewards.tolist() == [0.0, 0.0] and again.success.tolist() == [True, False]
    assert env.legal_actions(boards)[0] == []


def _index(name):
    return int(name.rpartition("/")[2])


def test_a_broken_game_costs_its_board(tmp_path):
    write_games(tmp_path, "small", {"train": 1})
    broken = next((tmp_path / "train").glob("pick_heat*/*/game.tw-pddl"))
    content = json.loads(broken.read_text())
    content["grammar"] = content["grammar"].replace("open {r}", "open {z}")
    broken.write_text(json.dumps(content))
    env = make_env(options(data=str(tmp_path)), 6, split="train")
    boards = np.arange(6)
    env.reset(boards.astype(np.uint64))
    bad = next(i for i, name in enumerate(env.names) if "pick_heat" in name)
    out = env.step(["<action>look</action>"] * 6, boards)
    assert [error is not None for error in out.error] == [i == bad for i in range(6)]
    assert "cannot be played natively" in out.error[bad] and "env.engine = 'package'" in out.error[bad]
    with pytest.raises(BoardsLost, match="cannot be worked out"):
        env.observe(boards)
    good = np.delete(boards, bad)
    assert len(env.observe(good)) == 5
    env.reset(np.array([good[0]], np.uint64), np.array([bad]))  # another game: the board plays again
    assert env.observe(np.array([bad])) == ["You are in the middle of a room." + _rest(env, good[0])]


def _rest(env, board):
    env.restart(np.array([board]))
    return env.observe(np.array([board]))[0].removeprefix("You are in the middle of a room.")


def test_a_command_that_may_mean_two_things_ends_the_trial(tmp_path):
    write_games(tmp_path, "small", {"train": 1})
    for path in (tmp_path / "train").glob("*/*/game.tw-pddl"):
        content = json.loads(path.read_text())
        content["grammar"] = content["grammar"].replace('"examine {r}"', '"look"')
        path.write_text(json.dumps(content))
    env = make_env(options(data=str(tmp_path)), 1, split="train")
    one = np.zeros(1, np.int64)
    env.reset(np.zeros(1, np.uint64))
    assert env.step(["<action>look</action>"], one).error == [None]
    assert env.step([next(m for m in env.legal_actions(one)[0] if "go to" in m)], one).error == [None]
    out = env.step(["<action>look</action>"], one)
    assert "'look' may mean two things" in out.error[0] and out.done[0] and not out.success[0]


def test_experts_solve_tasks_and_remember():
    B = 32
    env = make_env(options(), B, split="train")
    boards = np.arange(B)
    solved = {}
    for memory in (0.0, 1.0):
        env.reset(boards.astype(np.uint64))
        players = entry("alfworld").expert(env, [0.0], memory, B, np.random.default_rng(0))
        alive, solved[memory] = boards, []
        for _ in range(2):
            env.restart(alive)
            left = alive
            for _ in range(8):
                if len(left):
                    out = env.step(players.play(left)[0], left)
                    left = left[~out.done]
            solved[memory].append(len(alive) - len(left))
            alive = left
            notes = players.reflect(alive)
            assert all(notes)
    assert solved[0.0][0] > B / 4
    assert solved[1.0][1] > 1.3 * solved[0.0][1]


@pytest.mark.parametrize("task", TASK_TYPES, ids=lambda task: task.word)
def test_the_expert_reads_every_sentence(task):
    for sentence in task.sentences:
        player = player_of("Your task is to: " + sentence.format(obj="mug", recep="desk"))
        assert (player.thing, player.target, player.verb) == ("mug", "desk", task.verb)
        assert player.lamp == (task.word == "look")
    with pytest.raises(ValueError, match="cannot read the task"):
        player_of("Your task is to: wash up.")


@pytest.mark.slow
def test_the_package_beside_it(tmp_path, monkeypatch):
    pytest.importorskip("alfworld", reason="the package alfworld is not installed")
    from lamer_fast.envs.adapters.alfworld import native

    monkeypatch.chdir(tmp_path)  # a board of the package works in a folder of its own
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    chosen = options(engine="package")
    write_games(tmp_path / "games", "small", {"valid_seen": 1})
    compared = entry("alfworld").compare(chosen, tmp_path / "games", "valid", 30, 0)
    assert [line.partition(",")[0] for line in compared] == ["6 of 6 games"]
    split = native.split_intro
    monkeypatch.setattr(native, "split_intro", lambda said: (split(said)[0] + " ", split(said)[1]))
    native.playable.cache_clear()
    with pytest.raises(ValueError, match="the text of the package is"):
        next(entry("alfworld").compare(chosen, tmp_path / "games", "valid", 30, 0))
    native.playable.cache_clear()


def test_what_cannot_be_compared(capsys):
    with pytest.raises(ValueError, match="nothing to compare"):
        entry("sokoban").compare(default_options("sokoban"), None, "valid", 1, 0)
    assert cli.main(["envs", "compare", "sokoban"]) == 2
    assert "nothing to compare" in capsys.readouterr().err
