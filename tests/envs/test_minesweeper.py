"""Minesweeper against traces of ms-toollib, against its own written rules, and on boards laid by hand."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lamer_fast.envs import make, num_tasks

GOLDEN = Path(__file__).parent / "golden" / "ms_toollib.jsonl"
TRACES = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
SIZES = [(6, 6, 3), (8, 8, 10), (2, 5, 8), (1, 3, 1), (9, 9, 10), (16, 16, 40), (16, 3, 46)]


def lay(batch, mines, first):
    """Every board of the batch gets these mines."""
    is_mine = np.zeros((batch.num_envs, batch.num_actions), bool)
    is_mine[:, mines] = True
    batch.lay(is_mine, np.full(batch.num_envs, first, np.int32))
    return batch


def board_of(trace, **config):
    size = {"height": trace["height"], "width": trace["width"], "num_mines": len(trace["mines"])}
    return lay(make("minesweeper", 1, **size, **config), trace["mines"], trace["first"])


def open_cell(batch, cell):
    return batch.step(np.full((batch.num_envs, 1), cell, np.int32))


@pytest.mark.parametrize("trace", TRACES, ids=lambda t: f"{t['height']}x{t['width']}-{len(t['mines'])}")
def test_numbers_cascades_and_probabilities_of_ms_toollib(trace):
    batch = board_of(trace)
    positions = {position["opened"]: position for position in trace["positions"]}
    for i, cell in enumerate(trace["opened"]):
        done = i > 0 and open_cell(batch, cell).done[0]  # the first cell is opened by the environment
        assert done == (i == len(trace["opened"]) - 1)
        if position := positions.get(i + 1):
            assert batch.texts(style="compact")[0].replace("\n", "|") == position["text"]
            if position["probabilities"] is not None:
                probabilities, exact = batch.mine_probabilities()
                np.testing.assert_allclose(probabilities[0], position["probabilities"], atol=1e-6)
                assert exact[0]
    assert batch.flags()[1][0]


def test_no_guess_boards_hold_those_of_ms_toollib():
    """Ours is complete and counts mines, so it finds a way wherever ms-toollib does."""
    ours = Counter()
    for trace in TRACES:
        try:
            board_of(trace, no_guess=True)
        except ValueError as error:
            assert "guess" in str(error) and not trace["solvable"]
            ours["refused"] += 1
        else:
            ours["taken"] += 1
    assert ours["refused"] and ours["taken"] >= sum(trace["solvable"] for trace in TRACES)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("compact", "???*\n1111\n....\n...."),
        ("numbered", "Row 1: ? ? ? *\nRow 2: 1 1 1 1\nRow 3: . . . .\nRow 4: . . . ."),
        ("peers", "Row 1: ? ? ? *\nRow 2: 1 1 1 1\nRow 3: . . . .\nRow 4: . . . ."),
    ],
)
def test_text(style, text):
    batch = make("minesweeper", 1, height=4, width=4, num_mines=2)
    lay(batch, [0, 3], 12)
    assert batch.texts(style=style)[0] == text.replace("*", "?")
    assert open_cell(batch, 3).dead[0]
    assert batch.texts(style=style)[0] == text


def test_official_layout_is_113_bytes():
    batch = make("minesweeper", 1)
    batch.reset(np.zeros(1, np.uint64))
    assert len(batch.texts(style="peers")[0]) == 113


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ("lamer", {"cell": 0.5, "cascade": 2.0, "win": 10.0, "mine": -0.1, "invalid": -1.0}),
        ("sparse", {"cell": 0.0, "cascade": 0.0, "win": 10.0, "mine": 0.0, "invalid": 0.0}),
        (
            {"win": 1, "open": 0.25, "cascade": 0.125, "mine": -3, "invalid": -0.5},
            {"cell": 0.25, "cascade": 0.125, "win": 1.0, "mine": -3.0, "invalid": -0.5},
        ),
    ],
)
def test_rewards(rewards, expected):
    batch = make("minesweeper", 1, height=1, width=8, num_mines=2, rewards=rewards)
    lay(batch, [1, 4], 0)  # ?*??*??? : cell 0 is open
    expected = {name: np.float32(value) for name, value in expected.items()}

    def reward(cell):
        out = open_cell(batch, cell)
        return out.rewards[0], bool(out.done[0]), bool(out.success[0]), bool(out.dead[0])

    assert reward(0) == (expected["invalid"], False, False, False)  # open already
    assert reward(-1) == (expected["invalid"], False, False, False)
    assert reward(2) == (expected["cell"], False, False, False)
    assert reward(7) == (expected["cascade"], False, False, False)
    assert batch.texts(style="compact") == ["1?1??1.."]
    assert reward(3) == (expected["win"], True, True, False)
    assert reward(1) == (0.0, True, True, False)  # a finished board ignores actions
    batch.restart()
    assert reward(4) == (expected["mine"], True, False, True)
    assert reward(2) == (0.0, True, False, True)
    assert batch.texts(style="compact") == ["1???*???"]


def test_a_blank_cell_that_opens_nothing_else_pays_as_one_cell():
    batch = make("minesweeper", 1, height=1, width=9, num_mines=3)
    lay(batch, [0, 4, 8], 1)
    assert open_cell(batch, 3).rewards[0] == 0.5
    assert open_cell(batch, 2).rewards[0] == 0.5
    assert batch.texts(style="compact") == ["?1.1?????"]


def test_probabilities_of_finished_boards():
    batch = make("minesweeper", 1, height=1, width=6, num_mines=3)
    lay(batch, [1, 3, 4], 0)
    assert open_cell(batch, 3).dead[0]  # 1 at cell 0; cells 1 and 3 are mines, one more among 2, 4, 5
    np.testing.assert_allclose(batch.mine_probabilities()[0][0], [0, 1, 1 / 3, 1, 1 / 3, 1 / 3])
    batch.restart()
    open_cell(batch, 2)
    assert open_cell(batch, 5).success[0]
    assert batch.mine_probabilities()[0][0].tolist() == [0, 1, 0, 1, 1, 0]


@pytest.mark.parametrize("size", SIZES)
def test_first_cell_never_wins_nor_loses(size):
    height, width, num_mines = size
    batch = make("minesweeper", 500, height=height, width=width, num_mines=num_mines)
    batch.reset(np.arange(500, dtype=np.uint64))
    done, success, dead = batch.flags()
    assert not (done | success | dead).any()
    for text in batch.texts(style="compact"):
        assert "*" not in text and num_mines < text.count("?") < height * width


@pytest.mark.parametrize("size", [(6, 6, 3), (4, 4, 15), (9, 9, 10)])
def test_first_click_of_the_agent_is_safe(size):
    height, width, num_mines = size
    cells = height * width
    batch = make("minesweeper", cells, height=height, width=width, num_mines=num_mines, first_click="agent")
    for seed in range(20):
        batch.reset(np.full(cells, seed, np.uint64))
        tasks = batch.tasks()
        assert len(set(tasks.tolist())) == 1
        out = batch.step(np.arange(cells, dtype=np.int32)[:, None])
        assert not out.dead.any()
        np.testing.assert_array_equal(batch.tasks(), tasks)
        texts = batch.texts()
        copy = batch.snapshot()
        batch.restart()
        assert set("".join(batch.texts())) <= {"?", "\n"}
        batch.step(np.arange(cells, dtype=np.int32)[:, None])
        assert batch.texts() == texts
        batch.restore(copy)
        assert batch.texts() == texts


@pytest.mark.parametrize("size", [(6, 6, 3), (8, 8, 10), (12, 12, 20)])
def test_experts_win_boards_without_guesses(size):
    height, width, num_mines = size
    batch = make("minesweeper", 200, height=height, width=width, num_mines=num_mines, no_guess=True)
    batch.reset(np.arange(200, dtype=np.uint64))
    for _ in range(height * width):
        actions = batch.expert_actions()
        done = batch.flags()[0]
        assert ((actions == -1) == done).all()
        live = np.flatnonzero(~done)
        probabilities, exact = batch.mine_probabilities(live)
        assert exact.all() and not probabilities[np.arange(live.size), actions[live]].any()
        batch.step(actions[:, None])
    assert batch.flags()[1].all()


@pytest.mark.parametrize(
    ("config", "count"),
    [  # counted once by a program of its own, cell by cell; test_splits.py counts 4x4 anew
        ({"height": 4, "width": 4, "num_mines": 2}, 148),
        ({"height": 5, "width": 5, "num_mines": 3}, 4088),
        ({"height": 5, "width": 5, "num_mines": 4}, 25024),
        ({"height": 6, "width": 6, "num_mines": 3}, 14354),
    ],
)
def test_number_of_tasks(config, count):
    assert num_tasks("minesweeper", **config) == (count, True)


@pytest.mark.parametrize(
    ("mines", "first", "message"),
    [
        ([0, 1], 0, "the first cell, 0, is a mine"),
        ([0], 5, "the board has 1 mines, its configuration 2"),
        ([0, 3], 16, "first is 16, expected 0 to 15"),
        ([5, 10], -1, "first is -1"),
    ],
)
def test_bad_boards_are_refused(mines, first, message):
    batch = make("minesweeper", 2, height=4, width=4, num_mines=2)
    batch.reset(np.arange(2, dtype=np.uint64))
    before = batch.snapshot()
    with pytest.raises(ValueError, match=message):
        lay(batch, mines, first)
    assert batch.snapshot() == before
    with pytest.raises(ValueError, match=r"expected \(2, 16\)"):
        batch.lay(np.zeros((2, 15), bool), np.zeros(2, np.int32))
    with pytest.raises(TypeError, match="mines must be bool"):
        batch.lay(np.zeros((2, 16), np.uint8), np.zeros(2, np.int32))
