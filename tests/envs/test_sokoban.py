"""Sokoban: rules and rewards of gym-sokoban, optimal lengths, dead states, level files, expert."""

import json
from pathlib import Path

import numpy as np
import pytest

from lamer_fast.envs import make
from tests.envs.sokoban_rules import TO_XSB, shortest_solution

TRACES = [json.loads(line) for line in (Path(__file__).parent / "golden/gym_sokoban.jsonl").open()]


def seeds(count, first=0):
    return np.arange(first, first + count, dtype=np.uint64)


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["level"][:20])
def test_gym_sokoban_traces(trace):
    """Every room, reward and end of the recorded games, one move a turn, then all moves in one turn."""
    level = trace["level"].replace("|", "\n")
    batch = make("sokoban", 1, levels=[level])
    batch.reset(seeds(1))
    assert batch.texts()[0].translate(TO_XSB) == level
    for move, room, reward, solved in zip(
        trace["moves"], trace["rooms"], trace["rewards"], trace["solved"], strict=True
    ):
        out = batch.step(np.array([[move]], np.int32))
        assert batch.texts()[0].translate(TO_XSB).replace("\n", "|") == room
        assert out.rewards[0] == np.float32(reward)
        assert out.done[0] == out.success[0] == solved and not out.dead[0]
    batch.restart()
    out = batch.step(np.array([trace["moves"]], np.int32))
    np.testing.assert_array_equal(out.rewards_per_action[0], np.array(trace["rewards"], np.float32))
    assert out.executed[0] == len(trace["moves"])
    assert out.rewards[0] == pytest.approx(sum(trace["rewards"]), abs=1e-4)


def check_optimum(count, first=0, **config):
    batch = make("sokoban", count, **config)
    batch.reset(seeds(count, first))
    claimed = batch.distances()
    low, high = config.get("min_moves", 5), config.get("max_moves", 21)
    assert low <= claimed.min() and claimed.max() <= high
    for text, optimum in zip(batch.texts(), claimed.tolist(), strict=True):
        assert shortest_solution(text) == optimum, text


@pytest.mark.parametrize(
    ("count", "config"),
    [
        (60, {"num_boxes": 1}),
        (40, {"num_boxes": 2}),
        (10, {"num_boxes": 3, "max_moves": 40}),
        (4, {"height": 8, "width": 8, "num_boxes": 2}),
        (10, {"height": 5, "width": 8, "num_boxes": 1, "min_moves": 2, "max_moves": 4}),
    ],
)
def test_generated_boards_have_the_claimed_optimum(count, config):
    check_optimum(count, **config)


@pytest.mark.parametrize(
    ("count", "config"),
    [
        (1200, {"num_boxes": 1}),
        (700, {"num_boxes": 2}),
        (60, {"num_boxes": 3, "max_moves": 40}),
        (30, {"height": 8, "width": 8, "num_boxes": 2}),
        (10, {"height": 10, "width": 10, "num_boxes": 1}),
    ],
)
def test_two_thousand_generated_boards(count, config):
    check_optimum(count, first=10_000, **config)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("count", "config"), [(33_000, {"num_boxes": 1}), (16_000, {"num_boxes": 2}), (1000, {"num_boxes": 3})]
)
def test_fifty_thousand_generated_boards(count, config):
    check_optimum(count, first=100_000, **config)


@pytest.mark.parametrize("config", [{}, {"num_boxes": 1}, {"height": 10, "width": 10, "num_boxes": 4}])
def test_the_expert_plays_a_shortest_solution(config):
    batch = make("sokoban", 24, **config)
    batch.reset(seeds(24))
    optimum = batch.distances()
    num_moves = np.zeros(24, np.int32)
    for _ in range(21):
        actions = batch.expert_actions()
        assert ((actions >= 0) == ~batch.flags()[0]).all()
        num_moves += batch.step(np.maximum(actions, 0)[:, None]).executed
    assert batch.flags()[1].all()
    np.testing.assert_array_equal(num_moves, optimum)
    assert (batch.expert_actions() == -1).all()


def test_dead_states_are_those_without_a_solution():
    batch = make("sokoban", 60, num_boxes=1, track_dead=True)
    batch.reset(seeds(60))
    rng = np.random.default_rng(0)
    for _ in range(12):
        batch.step(rng.integers(0, 4, (60, 1), dtype=np.int32))
    done, _, dead = batch.flags()
    assert dead.any() and not dead.all()
    for text, is_done, is_dead, distance in zip(batch.texts(), done, dead, batch.distances(), strict=True):
        if not is_done:
            optimum = shortest_solution(text)
            assert (optimum is None) == is_dead
            assert distance == (-1 if optimum is None else optimum)


def test_end_on_dead():
    corner = "######\n#@   #\n#  $ #\n#  . #\n#    #\n######"
    for end in (False, True):
        batch = make("sokoban", 1, levels=[corner], track_dead=True, end_on_dead=end, rewards={"dead": -3.0})
        batch.reset(seeds(1))
        # around the box, then push it away from the target, against the wall
        out = batch.step(np.array([[1, 1, 1, 3, 3, 0, 0, 0]], np.int32))
        assert out.dead[0] and out.done[0] == end and not out.success[0]
        assert out.rewards_per_action.min() == -3.0
        batch.restart()
        assert not batch.flags()[2][0]


def test_a_turn_stops_at_the_win_unless_told_otherwise():
    level = "#######\n#@ $. #\n#######"
    moves = np.array([[3, 3, 3, 3]], np.int32)  # walk, win, then push the box off its target
    sane = make("sokoban", 1, levels=[level])
    sane.reset(seeds(1))
    out = sane.step(moves)
    assert out.executed[0] == 2 and out.done[0] and out.success[0]
    assert out.rewards[0] == pytest.approx(10.8, abs=1e-5)
    official = make("sokoban", 1, levels=[level], stop_at_done=False, turn_reward="last")
    official.reset(seeds(1))
    out = official.step(moves[:, :3])
    assert out.executed[0] == 3 and not out.done[0] and out.success[0]
    np.testing.assert_allclose(out.rewards_per_action[0], [-0.1, 10.9, -1.1], atol=1e-6)
    assert out.rewards[0] == np.float32(-1.1)


def test_reward_sets():
    level = "#######\n#@ $. #\n#######"
    moves = np.array([[-1, 4, 3, 3]], np.int32)
    numbers = {"step": -0.25, "on": 2.0, "win": 4.0, "invalid": -7.0}
    for rewards, expected in (
        ("lamer", [-0.1, -0.1, -0.1, 10.9]),
        ("sparse", [0, 0, 0, 10]),
        (numbers, [-7.0, -0.25, -0.25, 5.75]),
    ):
        batch = make("sokoban", 1, levels=[level], rewards=rewards)
        batch.reset(seeds(1))
        np.testing.assert_allclose(batch.step(moves).rewards_per_action[0], expected, atol=1e-6)


BOXOBAN = """; 0
##########
#@       #
# $  .   #
#  $  .  #
#        #
#        #
# $ .    #
# $    . #
#        #
##########

; 1
####
#@$.#
"""


def test_level_files():
    text = BOXOBAN.replace("####\n#@$.#\n", "#####\n#@$.#\n#####\n")
    batch = make("sokoban", 3, levels=[text])
    assert (batch.height, batch.width, batch.num_levels) == (10, 10, 2)
    batch.reset(seeds(3))
    boards = batch.texts()
    assert boards[0] == boards[2] != boards[1]
    assert boards[0].translate(TO_XSB) == text.split("; 1")[0][4:].strip()
    assert boards[1].split("\n")[1] == "#PXO######"  # a smaller level is padded by wall
    tasks = batch.tasks()
    assert tasks[0] == tasks[2] != tasks[1]
    windows = make("sokoban", 3, levels=["\ufeff" + text.replace("\n", "\r\n")])  # byte order mark, line ends
    windows.reset(seeds(3))
    assert windows.texts() == boards


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("######\n#@@$.#\n######", "2 players"),
        ("#####\n# $.#\n#####", "0 players"),
        ("######\n#@$$.#\n######", "targets"),
        ("#####\n#@ .#\n#####", "0 boxes"),
        ("#####\n#@$. \n#####", "not closed"),
        ("#####\n#@* #\n#####", "on targets already"),
        ("#" * 11 + "\n#@$.      #\n" + "#" * 11, "3x11"),
        ("a title only", "0 levels"),
    ],
)
def test_bad_level_files_are_named(level, message):
    with pytest.raises(ValueError, match=message):
        make("sokoban", 1, levels=[level])
