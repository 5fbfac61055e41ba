"""The TextArena face: its calls, its conventions, the same board as everywhere else."""

import numpy as np
import pytest

from lamer_fast.envs import text_env
from lamer_fast.envs.arena import ArenaEnv
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import default_options

BAD = "no action at all \ud800\0"


def play(env, replies):
    """(rewards, info, number of turns) of a game, in the loop that TextArena's users write."""
    done, turns = False, 0
    while not done:
        player, _ = env.get_observation()
        assert player == 0
        done, info = env.step(action=replies(turns))
        turns += 1
        assert set(info) == {"reward", "valid", "success"}
    return *env.close(), turns


def expert(env):
    def reply(turn):
        return env._env.expert_replies(np.zeros(1, np.int64), 0.0, np.zeros(1, np.uint64))[0]

    return reply


def test_messages_are_handed_out_once_and_name_who_wrote_them():
    env = ArenaEnv("sokoban", num_boxes=1)
    env.reset(num_players=1, seed=5)
    boards = text_env("sokoban", 1, num_boxes=1)
    boards.reset(np.array([5], np.uint64))
    assert env.get_observation() == (
        0,
        [(-1, boards.task_prompt(), "PROMPT"), (-1, boards.observe(np.zeros(1, np.int64))[0], "GAME_BOARD")],
    )
    assert env.get_observation() == (0, [])
    done, info = env.step("<action>up</action>")
    assert not done and info["valid"]
    assert [(who, kind) for who, _, kind in env.get_observation()[1]] == [
        (0, "PLAYER_ACTION"),
        (-1, "GAME_BOARD"),
    ]


def test_an_expert_wins_and_a_bad_reply_ends_nothing():
    env = ArenaEnv("sokoban", num_boxes=1)
    env.reset(seed=1)
    assert env.close()[0] is None, "no rewards while the game goes on"
    done, info = env.step(BAD)
    assert not done and not info["valid"] and env.game_info[0]["invalid_move"]
    rewards, info, turns = play(env, expert(env))
    assert rewards == {0: 1.0} and info[0]["success"] and info[0]["return"] > 5
    assert info[0]["turn_count"] == turns + 1
    assert env.step("<action>up</action>") == (True, {"reward": 0.0, "valid": True, "success": True})


def test_a_turn_limit_is_a_loss_and_restart_gives_the_same_board():
    env = ArenaEnv("minesweeper", split="test", panel=5, max_turns=2)
    env.reset(seed=7)
    first = env.get_observation()[1]
    rewards, info, turns = play(env, lambda turn: BAD)
    assert rewards == {0: 0.0} and turns == 2 and not info[0]["success"]
    env.restart()
    assert env.get_observation()[1] == first and env.close()[1][0]["turn_count"] == 0


def test_a_panel_is_that_of_an_evaluation():
    env, same = (
        ArenaEnv("minesweeper", split="test", panel=5),
        panel(default_options("minesweeper"), "test", 5),
    )
    for seed in range(7):
        env.reset(seed=seed)
        info = env.close()[1][0]
        assert (info["panel"], info["panel_idx"]) == (same.digest, seed % 5)
        assert info["task"] == int(same.tasks[seed % 5])


def test_wrong_arguments():
    for arguments, message in (
        ({"panel": 3}, "panel=3 needs a split"),
        ({"split": "test", "panel": 0}, "panel must be None or at least 1, got 0"),
        ({"max_turns": 0}, "max_turns must be None or at least 1, got 0"),
        ({"num_boxes": 9}, "num_boxes = 9, must be in"),
        ({"min_moves": 9, "max_moves": 5}, "contradicts"),
    ):
        with pytest.raises(ValueError, match=message):
            ArenaEnv("sokoban", **arguments)
    with pytest.raises(TypeError, match="no option 'boxes'"):
        ArenaEnv("sokoban", boxes=1)
    env = ArenaEnv("sokoban")
    for call in (env.restart, lambda: env.step("x")):
        with pytest.raises(ValueError, match=r"before the first reset"):
            call()
    with pytest.raises(ValueError, match="num_players = 2"):
        env.reset(num_players=2)
    with pytest.raises(ValueError, match="seed must be None or at least 0, got -1"):
        env.reset(seed=-1)


def test_textarena_makes_wraps_and_plays_it():
    textarena = pytest.importorskip("textarena", reason="needs the package textarena")
    from lamer_fast.envs.arena import register

    register()
    register()
    env = textarena.make("lamer_fast/Sokoban-v0", num_boxes=1, split="train")
    env.reset(num_players=1, seed=3)
    player, text = env.get_observation()
    assert player == 0 and text.startswith("\n[GAME] You are a warehouse keeper")
    env.step(action="<action>up</action>")
    assert "\n[Player 0] <action>up</action>" in env.get_observation()[1]
    rewards, info, _ = play(env, expert(env.env))
    assert rewards == {0: 1.0} and info[0]["success"]

    raw = textarena.make("lamer_fast/Minesweeper-v0-raw", split="test", panel=3)
    raw.reset(num_players=1, seed=0)
    kinds = [kind for _, _, kind in raw.get_observation()[1]]
    assert kinds == [textarena.ObservationType.PROMPT, textarena.ObservationType.GAME_BOARD]
    assert textarena.wrappers.LLMObservationWrapper(raw).is_wrapped_with(
        textarena.wrappers.LLMObservationWrapper
    )
