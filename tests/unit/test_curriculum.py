"""Curriculum: what a recipe may say, when a stage is over, and that a run goes on where it was."""

import json

import pytest

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.config.curriculum import stages_of
from lamer_fast.envs.registry import default_options
from lamer_fast.run.curriculum import Curriculum
from lamer_fast.study.read import load

MINES = default_options("minesweeper")
TEXT = "easy: num_mines=1 until=2; middle: num-mines=2 success=0.5; late: env.width=5 until=9"
TABLES = """
[train.curriculum.easy]
num_mines = 1
until = 2
[train.curriculum.middle]
num_mines = 2
success = 0.5
[train.curriculum.late]
width = 5
until = 9
"""


def test_tables_of_a_recipe_and_the_text_of_a_command_line_say_the_same(tmp_path):
    (tmp_path / "own.toml").write_text(TABLES)
    of_tables = recipe.resolve(str(tmp_path / "own.toml")).train.curriculum
    of_line = recipe.resolve("minesweeper-tiny", ["--train.curriculum", TEXT]).train.curriculum
    stages = stages_of(of_tables, MINES)
    assert [(s.name, s.until, s.success) for s in stages] == [
        ("easy", 2, None), ("middle", None, 0.5), ("late", 9, None),
    ]  # fmt: skip
    assert [(s.env.num_mines, s.env.width) for s in stages] == [
        (1, MINES.width), (2, MINES.width), (MINES.num_mines, 5),
    ]  # fmt: skip
    assert [s.env for s in stages_of(of_line, MINES)] == [s.env for s in stages]
    assert stages_of(Config().train.curriculum, MINES) == []


def test_an_arm_of_a_study_has_tables_too(tmp_path):
    arm = TABLES.replace("[train.", "[arms.staged.train.")
    text = 'question = "?"\nseeds = [0]\n[parts.mines]\nrecipe = "minesweeper-tiny"\n' + arm
    (tmp_path / "own.toml").write_text(text)
    (cell,) = load(str(tmp_path / "own.toml")).cells()
    assert [s.name for s in stages_of(cell.config.train.curriculum, MINES)] == ["easy", "middle", "late"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("easy: num_mines=1", "'easy': it has no end"),
        ("easy: num_mines=1 until=0", "until = '0', must be a number of iterations"),
        ("easy: num_mines=1 success=1.5", "success = '1.5', must be a share"),
        ("easy: num_mines=1 success=often", "success = 'often', must be a share"),
        ("easy: num_mine=1 until=3", "minesweeper has no option 'num_mine'"),
        ("easy: num_mines=400 until=3", "'easy': num_mines = 400, must be in"),
        ("easy: name=sokoban until=3", "all stages are of one environment"),
        (
            "a: num_mines=1 until=5; b: num_mines=2 until=5",
            "'b': until = 5, but a stage before it lasts until 5",
        ),
        ("a: num_mines=1 until=5; a: num_mines=2 until=6", "names 'a' twice"),
        ("easy", "must be NAME: option=value"),
    ],
)
def test_what_cannot_be_is_refused(text, message):
    with pytest.raises(ValueError) as error:
        recipe.resolve("minesweeper-tiny", ["--train.curriculum", text])
    assert message in str(error.value) and "train.curriculum" in str(error.value)


def stages_played(curriculum: Curriculum, success: list[float], done: int = 0) -> list[str]:
    """The stage of each iteration, whose trials win as said."""
    found = []
    for share in success:
        found.append(curriculum.now.name if curriculum.now else "own")
        done += 1
        curriculum.note(done, share)
    return found


def test_a_stage_is_over_by_iterations_or_by_success_whichever_comes_first():
    easy, middle, late = (["easy"] * 2, ["middle"] * 3, ["late"])
    stages = stages_of(TEXT, MINES)
    won = [1.0, 1.0, 0.1, 0.2, 0.9, 0.6, 0.0, 0.0, 0.0, 0.0]
    assert stages_played(Curriculum(stages), won) == easy + ["middle"] * 4 + late * 3 + ["own"]
    assert stages_played(Curriculum(stages), [0.5] * 6) == easy + middle + late, "a mean of at least 0.5"
    never = stages_played(Curriculum(stages), [0.49] * 12)
    assert never == easy + ["middle"] * 10, "no stage after it begins, whatever its own end"
    late_start = stages_played(Curriculum(stages), [0.0] * 9 + [0.9] * 3)
    assert late_start == easy + ["middle"] * 9 + ["own"], "what is over before it begins is left out"


def test_success_is_of_the_stage_alone_and_at_least_of_three_iterations():
    stages = stages_of("a: num_mines=1 success=0.9; b: num_mines=2 success=0.9", MINES)
    assert stages_played(Curriculum(stages), [1.0] * 7) == ["a"] * 3 + ["b"] * 3 + ["own"]


@pytest.mark.parametrize("saved_after", range(8))
def test_it_goes_on_where_it_was(saved_after):
    won = [0.3, 0.7, 0.45, 0.5, 0.55, 0.0, 0.2, 0.1, 0.9]
    whole, first, second = (Curriculum(stages_of(TEXT, MINES)) for _ in range(3))
    expected = stages_played(whole, won)
    before = stages_played(first, won[:saved_after])
    saved = json.loads(json.dumps(first.saved()))
    second.check(saved)
    second.load(saved)
    assert before + stages_played(second, won[saved_after:], saved_after) == expected
    assert second.saved() == whole.saved()


@pytest.mark.parametrize("saved", [None, {}, {"stage": 4, "recent": []}, {"stage": 1, "recent": ["x"]}, 3])
def test_a_damaged_place_is_refused(saved):
    with pytest.raises(ValueError, match="must hold a stage of 0 to 3"):
        Curriculum(stages_of(TEXT, MINES)).check(saved)
