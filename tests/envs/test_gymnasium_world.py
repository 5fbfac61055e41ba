"""Gymnasium's environments as text: their texts, the same task again, splits, and what options refuse."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lamer_fast.envs.adapters import gymnasium as adapter
from lamer_fast.envs.adapters import gymnasium_texts as texts
from lamer_fast.envs.adapters.gymnasium import Board, Options, known
from lamer_fast.envs.adapters.world import command, digest, plain
from lamer_fast.envs.check import check_env
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import default_options, make_env

pytest.importorskip("gymnasium")
LAKE = Options(name="gymnasium", arguments='{"size": 4, "is_slippery": false}')
SLIPPERY = Options(name="gymnasium", arguments='{"size": 4, "is_slippery": true}')
TAXI = Options(name="gymnasium", id="Taxi-v4")
CLIFF = Options(name="gymnasium", id="CliffWalking-v1")
BABY = Options(name="gymnasium", id="minigrid:BabyAI-GoToRedBall-v0")


def board_of(options):
    if options is BABY:
        pytest.importorskip("minigrid", reason="the package minigrid is not installed")
    return Board(options)


def act(name):
    return f"<action>{name}</action>"


def story(board, names):
    """All that a board shows and pays for these replies."""
    shown = [(board.observe(), board.legal_actions())]
    for name in names:
        turn = board.step(act(name))
        shown.append((turn, board.observe(), board.legal_actions()))
        if turn.done:
            break
    return shown


@pytest.mark.parametrize("options", [LAKE, SLIPPERY, TAXI, CLIFF, BABY])
def test_a_restart_is_the_same_task_from_any_state(options):
    board = board_of(options)
    rng = np.random.default_rng(0)
    for seed in (3, 2**64 - 1):
        board.reset(seed)
        names = [board.names[i] for i in rng.integers(0, min(4, len(board.names)), 30)]
        first, task = story(board, names), board.task()
        for turns in (0, 1, 7):
            board.restart()
            story(board, names[::-1][:turns])
            board.restart()
            assert story(board, names) == first and board.task() == task
        board.reset(seed + 1 if seed == 3 else 0)
        board.reset(seed)
        assert story(board, names) == first
        other = Board(options)
        other.reset(seed)
        assert story(other, names) == first


def test_lakes_are_drawn_by_seeds_and_show_where_one_stands():
    board = Board(LAKE)
    board.reset(5)
    rows = board.observe().split("\n")
    assert rows[0].startswith("[S]") and [len(row) for row in rows] == [6, 4, 4, 4]
    assert board.step(act(" Right ")).valid and board.observe().startswith("S[")
    drawn = set()
    for seed in range(20):
        board.reset(seed)
        drawn.add(board.observe())
    assert len(drawn) > 15
    fixed = Board(replace(LAKE, arguments='{"map_name": "4x4", "is_slippery": false}'))
    fixed.reset(1)
    assert fixed.observe() == "[S]FFF\nFHFH\nFFFH\nHFFG"
    wins = [fixed.step(act(name)) for name in ["down", "down", "right", "right", "down", "right"]]
    assert [turn.reward for turn in wins] == [0, 0, 0, 0, 0, 1] and wins[-1].success and wins[-1].done
    assert fixed.legal_actions() == []
    fixed.restart()
    falls = [fixed.step(act(name)) for name in ("right", "down")]
    assert falls[-1].done and not falls[-1].success and not falls[-1].truncated


def test_success_rewards_and_limits():
    board = Board(replace(CLIFF, rewards="success", max_steps=20))
    board.reset(0)
    turns = [board.step(act(name)) for name in ["up", *["right"] * 11, "down"]]
    assert turns[-1].success and [turn.reward for turn in turns] == [0.0] * 12 + [10.0]
    board.restart()
    turns = [board.step(act("up")) for _ in range(20)]
    assert turns[-1].done and turns[-1].truncated and not turns[-1].success and not turns[-2].done


def test_a_taxi_is_described_and_offers_what_does_something():
    board = Board(TAXI)
    board.reset(3)
    text = board.observe()
    row, column, place = re.search(r"row (\d), column (\d)\. The passenger is at (\w)", text).groups()
    assert board.env.unwrapped.s == board.env.unwrapped.encode(
        int(row) - 1,
        int(column) - 1,
        "RGYB".index(place),
        "RGYB".index(re.search(r"destination is (\w)", text)[1]),
    )
    desc = ["".join(c.decode() for c in r) for r in board.env.unwrapped.desc][1:-1]
    for line, drawn in zip(texts.TAXI_MAP.split("\n"), desc, strict=True):
        walls = [drawn[i] == "|" for i in range(2, 10, 2)]
        cells = re.findall(r"[\w.](?= \|)?|\|", line)
        assert [cells[i + 1] == "|" for i in range(len(cells) - 1) if cells[i] != "|"] == walls
    masked = [name for name in board.names if act(name) in board.legal_actions()]
    assert 0 < len(masked) < 6
    assert texts.taxi(((0 * 5 + 4) * 5 + 4) * 4 + 2).endswith(
        "row 1, column 5. The passenger is in the taxi. The destination is Y (row 5, column 1)."
    )


def test_a_view_of_minigrid_is_written_from_where_one_stands():
    view = np.ones((7, 7, 3), int) * [1, 0, 0]
    view[3, 6] = [5, 4, 0]  # what is carried
    view[3, 3], view[1, 5], view[5, 6] = [4, 2, 2], [6, 0, 0], [7, 5, 0]
    view[3, 1] = view[0, 6] = [2, 5, 0]
    view[6] = [0, 0, 0]
    said = texts.grid({"image": view, "direction": 1, "mission": "open the blue door"})
    assert said.split("\n") == [
        "Mission: open the blue door", "You face south.", "You carry a yellow key.", "You see:",
        "- a grey box, 2 steps right", "- a locked blue door, 3 steps forward",
        "- a red ball, 1 step forward and 2 steps left", "- a wall, 3 steps left",
        "- a wall, 5 steps forward",
    ]  # fmt: skip


@pytest.mark.parametrize("options", [LAKE, BABY])
def test_splits_share_no_task_and_panels_have_digests(options):
    board_of(options)
    options = replace(options, workers=1)
    tasks = {split: panel(options, split, 16) for split in SPLITS}
    assert all(len(set(found.tasks.tolist())) == 16 for found in tasks.values())
    shown = {split: set(found.tasks.tolist()) for split, found in tasks.items()}
    assert not (
        shown["train"] & shown["valid"] | shown["train"] & shown["test"] | shown["valid"] & shown["test"]
    )
    assert tasks["valid"].digest == panel(options, "valid", 16).digest != tasks["test"].digest
    env = make_env(options, 16, split="valid")
    env.reset(tasks["valid"].seeds.copy())
    lakes = env.observe(np.arange(16))
    env = make_env(options, 100, split="train")
    env.reset(np.arange(100, dtype=np.uint64))
    if options.id == LAKE.id:
        assert not set(lakes) & set(env.observe(np.arange(100)))


@pytest.mark.parametrize("options", [SLIPPERY, TAXI, BABY])
def test_it_keeps_the_protocol(options):
    board_of(options)
    options = replace(options, workers=2)
    assert check_env(make_env(options, 4, split="train")) == []


def test_one_task_has_no_held_out_ones():
    with pytest.raises(
        EnvError, match=r"draws from seed 0, which showed 1 tasks: the environment has too few"
    ):
        for split in SPLITS:
            make_env(replace(CLIFF, workers=1), 4, split=split).reset(np.arange(4, dtype=np.uint64))


def describe_pole(observation):
    return f"The pole leans {'right' if observation[2] > 0 else 'left'}."


def describe_nothing(observation):
    return None


WRONG = {
    "has no text rendering (it has human, rgb_array): env.describe must name": {"id": "CartPole-v1"},
    "env.describe returned a value of type NoneType, expected a text": {
        "id": "CartPole-v1", "describe": f"{__name__}:describe_nothing"
    },
    "has actions of Box(-2.0, 2.0, (1,), float32), expected a Discrete space": {
        "id": "Pendulum-v1", "describe": f"{__name__}:describe_pole"
    },
    "FrozenLake-v1 has 4 actions, env.actions names left, right": {"actions": "left, right"},
    "unexpected keyword argument 'slippery'": {"arguments": '{"slippery": false}'},
    "env.arguments = '[1]', must be a JSON object": {"arguments": "[1]"},
    "env.arguments = '{', must be a JSON object": {"arguments": "{"},
    "doesn't exist": {"id": "FrozenPond-v1"},
    "env.describe = 'nowhere:f': no such module here or installed": {
        "id": "CartPole-v1", "describe": "nowhere:f"
    },
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_wrong_options_are_told(message):
    options = replace(default_options("gymnasium"), **WRONG[message])
    with pytest.raises(Exception, match=re.escape(message)):
        options.validate()
        board = Board(options)
        board.reset(0)


def test_ones_own_description():
    options = Options(id="CartPole-v1", describe=f"{__name__}:describe_pole", actions="push left,push right")
    board = Board(options)
    board.reset(0)
    assert board.observe() in ("The pole leans left.", "The pole leans right.")
    turns = [board.step(act("push left")) for _ in range(30)]
    assert turns[-1].done and "<action>push left</action>: push left, push right." in board.task_prompt()


def test_the_description_on_the_page_tells_tasks_apart(monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    exec(re.search(r"```py\n(def pole.*?)```", page, re.DOTALL)[1], names := {})
    monkeypatch.setitem(globals(), "pole", names["pole"])
    board = Board(Options(id="CartPole-v1", describe=f"{__name__}:pole"))
    tasks = {board.reset(seed) or board.task() for seed in range(64)}
    assert len(tasks) == 64, "as many tasks as starts, of which each split gets some"


def test_a_missing_package_says_what_installs_it(monkeypatch):
    monkeypatch.setattr(adapter.Gymnasium, "packages", {"no_such_gymnasium": "gym", "minigrid": "minigrid"})
    monkeypatch.setattr(adapter.Gymnasium, "needed", lambda self, options: self.packages)
    with pytest.raises(EnvError, match=r"needs the package no_such_gymnasium, .* 'lamer-fast\[gym\]'"):
        make_env(LAKE, 2, split=None)


def test_commands_are_clean_lines():
    assert command("I go. <action> Turn\n left </action>") == "Turn left"
    for content in ("", " ", "a\0b", "\ud800", "\x1b[2J", "x" * 201, "x" * 2_000_000):
        assert command(act(content)) is None
    assert command("left") is None
    assert plain("\x1b[31mR\x1b[0m \x00\n\n a\tb  \r\n") == "R\n\n a    b"


def test_digests_depend_on_values_alone():
    one = {"b": {3, 1, 2}, "a": [np.arange(3), SimpleNamespace(x="y")]}
    other = {"a": [np.arange(3), SimpleNamespace(x="y")], "b": {2, 3, 1}}
    assert digest(one) == digest(other) != digest({**one, "b": {1, 2}})
    assert json.dumps(digest(one)) and 0 <= digest(None) < 2**64
    assert known("minigrid:BabyAI-GoTo-v0") is adapter.GRID
