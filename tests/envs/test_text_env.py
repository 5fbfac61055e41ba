"""Text environments: turns, replies, prompts and their legends, experts with noise, autoreset."""

import numpy as np
import pytest

from lamer_fast.envs import make, text_env
from lamer_fast.envs.native import sokoban

U64 = np.uint64
CORRIDOR = "########\n#@ $ .*#\n########"


def seeds(count):
    return np.arange(count, dtype=U64)


def corridor(**kwargs):
    env = text_env("sokoban", 2, levels=[CORRIDOR], **kwargs)
    env.reset(seeds(2))
    return env, np.arange(2)


def test_a_turn_of_sokoban():
    env, boards = corridor()
    out = env.step(["I walk. <action>right, RIGHT , still</action>", "no tags"], boards)
    np.testing.assert_allclose(out.rewards, [-0.3, -0.1], atol=1e-6)
    assert out.valid.tolist() == [True, False] and out.error == [None, None]
    assert env.observe(boards)[0].split("\n")[1] == "1: # _ _ P X O * #"
    assert env.observe(boards)[1].split("\n")[1] == "1: # P _ X _ O * #"
    out = env.step(["<action>right</action>"], boards[:1])
    assert out.done.tolist() == out.success.tolist() == [True] and out.rewards[0] == np.float32(10.9)
    again = env.step(["<action>left</action>"], boards[:1])
    assert again.done[0] and again.success[0] and again.rewards[0] == 0
    assert not out.truncated.any()


@pytest.mark.parametrize(("moves_per_turn", "column"), [(1, 2), (2, 3), (3, 3)])
def test_moves_beyond_the_limit_are_dropped(moves_per_turn, column):
    env, boards = corridor(moves_per_turn=moves_per_turn, style="compact")
    assert env.step(["<action>right, right, up, left, left</action>"] * 2, boards).valid.all()
    assert env.observe(boards)[0].split("\n")[1].index("P") == column
    assert f"at most {moves_per_turn}" in env.task_prompt() or moves_per_turn == 1


def test_a_turn_of_minesweeper():
    env = text_env("minesweeper", 3, prompt="compact")
    boards = np.arange(3)
    env.reset(seeds(3))
    before = env.observe(boards)
    row, column = divmod(before[0].replace("\n", "").index("?"), 6)
    out = env.step(
        [f"<action>({row + 1}, {column + 1})</action>", "<action>(99, 1)</action>", "(1, 1)"], boards
    )
    after = env.observe(boards)
    assert after[0] != before[0] and after[1:] == before[1:]
    assert out.valid.tolist() == [True, True, False]
    assert out.rewards[1] == out.rewards[2] == -1.0


@pytest.mark.parametrize("style", sokoban.SYMBOLS)
def test_the_legend_names_every_symbol(style):
    env = text_env("sokoban", 200, style=style)
    boards = np.arange(200)
    env.reset(seeds(200))
    seen = set()
    for _ in range(15):
        env.step(env.expert_replies(boards, 0.3, seeds(200)), boards)
        seen |= set("".join(env.observe(boards)))
    assert seen - set("0123456789: \n") == set(sokoban.SYMBOLS[style])
    lines = env.task_prompt().split("\n")
    for symbol in sokoban.SYMBOLS[style]:
        assert sum(line.startswith(symbol + " ") for line in lines) == 1


def test_the_prompt_tells_of_the_line_below_the_room():
    for show_moves in (False, True):
        env = text_env("sokoban", 1, controls="permuted", show_moves=show_moves)
        env.reset(seeds(1))
        env.step(["<action>left</action>"], np.arange(1))
        said = env.observe(np.arange(1))[0].splitlines()[-1].startswith("left: ")
        assert said == ("A line below the room says" in env.task_prompt()) == show_moves


@pytest.mark.parametrize("name", ["sokoban", "minesweeper"])
def test_the_example_reply_of_the_prompt_parses(name):
    for prompt in ("full", "compact"):
        env = text_env(name, 1, prompt=prompt)
        text = env.task_prompt()
        assert env.batch.parse([text])[2][0] or (name == "minesweeper" and prompt == "compact")
    assert len(text_env(name, 1, prompt="compact").task_prompt()) < 90
    assert "at most 5" in sokoban.task_prompt("full", "compact", 5)


@pytest.mark.parametrize(("name", "turns"), [("sokoban", 21), ("minesweeper", 33)])
def test_experts(name, turns):
    env = text_env(name, 64)
    boards = np.arange(64)
    env.reset(seeds(64))
    before = env.snapshot(boards)
    perfect = env.expert_replies(boards, 0.0, seeds(64))
    assert env.snapshot(boards) == before, "asking the expert must not move anything"
    assert perfect == env.expert_replies(boards, np.zeros(64), seeds(64) + U64(1))
    noisy = env.expert_replies(boards, 1.0, seeds(64))
    assert (
        noisy
        == env.expert_replies(boards, 1.0, seeds(64))
        != env.expert_replies(boards, 1.0, seeds(64) + U64(9))
    )
    mixed = env.expert_replies(boards, np.where(boards < 32, 0.0, 1.0).astype(np.float32), seeds(64))
    assert mixed == perfect[:32] + noisy[32:]
    assert env.expert_replies(boards[5:9], 1.0, seeds(64)[5:9]) == noisy[5:9]

    def play(noise):
        env.restart(boards)
        for turn in range(turns):
            out = env.step(env.expert_replies(boards, noise, seeds(64) + U64(1000 * turn)), boards)
            assert out.valid.all()
        return out.success.mean()

    solved, rarely = play(0.0), play(1.0)
    assert solved == 1.0 if name == "sokoban" else solved > 0.7
    assert rarely < 0.5


def test_noise_is_uniform_over_the_legal_actions():
    env = text_env("sokoban", 4000, moves_per_turn=1)
    boards = np.arange(4000)
    env.reset(np.zeros(4000, U64))
    legal = env.legal_actions(boards[:1])[0]
    replies = env.expert_replies(boards, 1.0, seeds(4000))
    shares = [replies.count(reply) / 4000 for reply in legal]
    assert sum(shares) == pytest.approx(1.0)
    assert max(abs(share - 1 / len(legal)) for share in shares) < 0.04


def test_parallel_boards_of_one_seed_share_task_and_anchor():
    env = text_env("minesweeper", 4)
    boards = np.arange(4)
    env.reset(np.array([5, 5, 6, 5], U64))
    tasks, anchors = env.tasks(boards), env.anchors(boards)
    assert tasks[0] == tasks[1] == tasks[3] != tasks[2]
    assert anchors[0] == anchors[1] == anchors[3] != anchors[2]
    env.step(env.legal_actions(boards[:1])[0][:1], boards[:1])
    assert env.anchors(boards)[0] != anchors[0] and env.tasks(boards)[0] == tasks[0]


@pytest.mark.parametrize("name", ["sokoban", "minesweeper"])
def test_native_autoreset(name):
    """`same` goes on with the next board at once, `next` after one step whose action is ignored."""
    modes = {mode: make(name, 50, autoreset=mode) for mode in ("none", "same", "next")}
    for batch in modes.values():
        batch.reset(seeds(50))
    for _ in range(40):
        actions = modes["none"].expert_actions()
        turn = np.maximum(actions, 0)[:, None]
        alive = ~modes["none"].flags()[0]
        outs = {mode: batch.step(turn) for mode, batch in modes.items()}
        now = alive & outs["none"].done
        for mode in ("same", "next"):
            np.testing.assert_array_equal(outs[mode].done[alive], outs["none"].done[alive])
            np.testing.assert_array_equal(outs[mode].rewards[alive], outs["none"].rewards[alive])
        assert not modes["same"].flags()[0].any()
        assert modes["next"].flags()[0][now].all()
        if now.any():
            ended = np.flatnonzero(now)
            fresh = modes["same"].texts(ended)
            assert fresh != modes["none"].texts(ended)
            out = modes["next"].step(turn[ended].copy(), env_idx=ended)
            assert not out.done.any() and not out.rewards.any() and not out.executed.any()
            assert modes["next"].texts(ended) == fresh
            break
    else:
        raise AssertionError("no board ended")
