"""Household games of our own making: solvable, distinct, the same everywhere, laid out as the download is."""

import json
import re
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from lamer_fast.envs.adapters.alfworld.generate import GAMES, game, main, write_games
from lamer_fast.envs.adapters.alfworld.names import short_names
from lamer_fast.envs.adapters.alfworld.tasks import TASK_TYPES
from tests.envs.household_rules import Household

SIZES = ("small", "full")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", TASK_TYPES, ids=lambda task: task.word)
def test_the_plan_of_a_game_wins_it_and_not_before_its_last_command(task, size):
    for split in GAMES:
        for index in range(12):
            made = game(size, split, task, index)
            asked = made.trajectory["pddl_params"]
            goal = (task.name, asked["object_target"], asked["parent_target"], asked["toggle_target"])
            home = Household(made.content["pddl_problem"])
            for command in made.content["walkthrough"]:
                assert not home.won(*goal), made.name
                home.play(command)
            assert home.won(*goal) and len(made.content["walkthrough"]) <= 10, made.name


def facts(problem):
    """What a game is, whatever its furniture's coordinates are."""
    home = Household(problem)
    lying = sorted(f for f in home.facts if f[0] in ("inreceptacle", "ison", "inreceptacleobject"))
    goal = re.sub(r"\s+", " ", problem[problem.index("(:goal") :])
    rooms = sorted(home.place.items())
    return blake2b(repr((lying, goal, rooms)).encode()).digest()


@pytest.mark.parametrize("size", SIZES)
def test_no_game_is_made_twice_and_unseen_rooms_are_not_seen(size):
    rooms, seen = {}, {}
    for split, count in GAMES.items():
        for task in TASK_TYPES:
            for index in range(min(count, 40)):
                made = game(size, split, task, index)
                rooms.setdefault(split, set()).add(made.trajectory["scene"]["scene_num"])
                assert seen.setdefault(facts(made.content["pddl_problem"]), made.name) == made.name
    assert not rooms["valid_unseen"] & (rooms["train"] | rooms["valid_seen"])
    assert rooms["valid_seen"] & rooms["train"]


def test_games_are_the_same_in_another_process():
    code = (
        "from hashlib import blake2b; from lamer_fast.envs.adapters.alfworld.generate import *\n"
        "games = [game(s, 'train', t, 3) for s in ('small', 'full') for t in TASK_TYPES]\n"
        "print(blake2b(repr(games).encode()).hexdigest())"
    )
    out = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(out) == 1


def test_games_are_written_as_the_download_is(tmp_path, monkeypatch, capsys):
    assert write_games(tmp_path / "a", "small", {"train": 1, "valid_seen": 1}) == 2 * len(TASK_TYPES)
    counts = ["--train", "1", "--valid-seen", "1", "--valid-unseen", "0"]
    monkeypatch.setattr(sys, "argv", ["generate", str(tmp_path / "b"), "--size", "small", *counts])
    main()
    assert "12 games" in capsys.readouterr().out
    paths = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("game.tw-pddl"))
    assert {p.parts[0] for p in paths} == {"train", "valid_seen"} and len(paths) == 12
    for path in paths:
        made, again = (json.loads((tmp_path / x / path).read_text()) for x in "ab")
        trajectory = json.loads((tmp_path / "a" / path.parent / "traj_data.json").read_text())
        assert made == again and path.parts[1].startswith(trajectory["task_type"])
        task = trajectory["turk_annotations"]["anns"][0]["task_desc"]
        assert f"Your task is to: {task}" in made["grammar"] and "UNKNOWN GOAL" not in made["grammar"]


def test_the_last_of_a_kind_in_the_alphabet_is_number_one():
    names = short_names(["mug_bar_b", "mug_bar_a", "sink_bar_c_bar_sinkbasin", "sink_bar_d", "cup_bar_x"])
    assert names == {
        "mug_bar_a": "mug 2", "mug_bar_b": "mug 1", "sink_bar_c_bar_sinkbasin": "sinkbasin 1",
        "sink_bar_d": "sink 1", "cup_bar_x": "cup 1",
    }  # fmt: skip
