"""Studies: what a file may say, and which cells it makes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lamer_fast.config import resolve as recipe
from lamer_fast.config.resolve import to_json
from lamer_fast.model.path import SHIPPED
from lamer_fast.study import on_model
from lamer_fast.study.cell import budget_of
from lamer_fast.study.read import LABS, load, names
from lamer_fast.study.reuse import run_of
from lamer_fast.study.runner import next_of
from lamer_fast.warmstart.settings import resolve as warm_start
from tests.small_study import SMALL, study

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", names())
def test_every_shipped_study_has_cells_that_can_run(name):
    found = load(name)
    cells = found.cells()
    assert len({cell.name for cell in cells}) == len(cells)
    assert all(cell.config.train.seed == cell.seed for cell in cells)
    small = found.quick()
    assert {cell.name for cell in small.cells()} <= {f"{c.part}-{c.arm.name}-{small.seeds[0]}" for c in cells}
    assert {cell.config.name for cell in small.cells()}.isdisjoint(cell.config.name for cell in cells)


def test_spare_groups_are_in_the_budget_at_most_and_the_result_counts_those_that_were_played(tmp_path):
    dynamic = SMALL.replace(
        "[arms.ours]", "[arms.half]\nrollout = { groups = 8, spare_groups = 8 }\n[arms.ours]"
    )
    half, ours = (c for c in study(tmp_path, dynamic).cells() if c.seed == 0 and c.arm.train)
    assert half.episodes == ours.episodes == 16 * 8 * 3 * 60
    counts = {"tokens": {"sampled": 5, "trained": 4}, "counters": {"updates": 2}, "seconds": {}}
    metrics = [counts | {"groups_played": played} for played in (8, 13)]
    assert budget_of(half.config, metrics, tmp_path)["episodes"] == (8 + 13) * 8 * 3
    assert budget_of(ours.config, [counts, counts], tmp_path)["episodes"] == 2 * 16 * 8 * 3


@pytest.mark.parametrize("name", names())
def test_no_part_is_longer_than_its_model_has_positions(name):
    for cell in load(name).quick().cells():
        for config in (cell.config, cell.evaluated):
            assert config.rollout.max_sequence_tokens <= positions(cell.config.model.path), cell.name


def positions(path):
    if path in SHIPPED:
        return json.loads((SHIPPED[path] / "config.json").read_text())["max_position_embeddings"]
    made = warm_start(Path(path).name)  # a base of which the package has the settings alone
    return recipe.load(made.recipe).rollout.max_sequence_tokens


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds = [0, 1]", "seeds = [0, 0]"), "names a seed twice"),
        (("seeds = [0, 1]", "seeds = []"), "seeds = [], must be a list of numbers from 0 up"),
        (("seeds = [0, 1]", ""), "seeds is missing"),
        (("seeds = [0, 1]", "seeds = [0, 1]\ntasks = 0"), "tasks = 0, must be a number of boards from 1 up"),
        (
            ("[arms.ours]", '[parts.more]\nrecipe = "toy"\ntasks = "all"\n[arms.ours]'),
            "parts.more.tasks = 'all'",
        ),
        (("[arms.ours]", "[parts.more]\ntasks = 8\n[arms.ours]"), "parts.more.recipe is missing"),
        (('recipe = "minesweeper-tiny"', "recipe = 3"), "parts.mines.recipe = 3, must be a text"),
        (("[modes.notes]", "evaluate = 3\n[modes.notes]"), "parts.mines.evaluate = 3, must be a table"),
        (("[modes.notes]", "published = 3\n[modes.notes]"), "parts.mines.published = 3, must be a table"),
        (("trained = false", 'trained = "no"'), "arms.base.trained = 'no', must be true or false"),
        (("trained = false", "parts = []"), "arms.base.parts = [], it would run on none"),
        (
            ("trained = false", 'modes = "notes"'),
            "modes = 'notes', must be a list of: notes, history, attempts",
        ),
        (("[arms.base]", "[arms.ours]"), "declare"),
        (
            ('question = "Which?"', 'question = "Which?"\nmeasures = "notes"'),
            "measures = 'notes', must be a list of: exploration, notes",
        ),
        (("[arms.ours]", "[arms.ours]\nalgo.gama_traj = 0.5"), "did you mean 'algo.gamma_traj'"),
        (("[arms.ours]", "[arms.ours]\nalgos = 1"), "unknown key 'arms.ours.algos', did you mean 'algo'"),
        (("[arms.ours]", "[arms.ours]\nrollout.episodes = 2"), "plays"),
        (("[modes.notes]", "[modes.attempts]"), "is there by itself"),
        (("[modes.notes]", '[modes.notes]\nreflector = "random"'), "must be one of: own, base"),
        (
            ('question = "Which?"', 'question = "Which?"\nmeasures = ["note"]'),
            "there are: exploration, notes",
        ),
        (('recipe = "minesweeper-tiny"', 'recipe = "minesweeper-tyni"'), "did you mean 'minesweeper-tiny'"),
        (("[arms.base]", '[arms."../base"]'), "a name is letters, digits"),
        (
            ('question = "Which?"', 'question = "Which?"\nagainst = "theirs"'),
            "is no arm; there are: ours, base",
        ),
        (('question = "Which?"', 'question = "Which?"\nextends = "small.toml"'), "which extends it"),
    ],
)
def test_a_wrong_study_is_told_before_anything_runs(tmp_path, change, message):
    text = SMALL.replace(*change)
    if "plays" in message:
        text += '[arms.third]\nalgo.estimator = "grpo"\n'
    with pytest.raises(ValueError, match="small") as error:
        study(tmp_path, text).cells()
    assert message in str(error.value)


def test_an_arm_of_ones_own_is_one_small_file(tmp_path):
    own = 'extends = "main"\n[arms.mine]\ndoc = "no discount"\nalgo.gamma_traj = 1.0\nseeds = [3]\n'
    cells = study(tmp_path, own, "own.toml").cells()
    mine = [cell for cell in cells if cell.arm.name == "mine"]
    assert [cell.config.algo.gamma_traj for cell in mine] == [1.0] * len(mine) and mine
    assert len(cells) == len(load("main").cells()) + len(mine)


def test_the_examples_of_the_page_can_be_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("What went wrong?")
    page = (ROOT / "docs" / "studies.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, re.S)
    whole = [block for block in blocks if re.search(r"^\[arms\.|^model\.path", block, re.M)]
    whole = [block for block in whole if not block.startswith(tuple(f'extends = "{lab}"' for lab in LABS))]
    arms = []
    for i, block in enumerate(whole):
        (tmp_path / f"example{i}.toml").write_text(block)
        of_model = re.match(r'extends = "(.*?)"', block)
        if of_model and of_model[1] in on_model.names():
            found = load("main", f"example{i}.toml")
        else:
            found = load(f"example{i}.toml")
        assert found.quick().cells()
        arms.append({*found.arms} - {*load("main").arms, *load("prompt").arms})
    assert arms == [{"no_discount"}, {"mine"}, set(), {"mine"}]


EVALUATED = """
[parts.mines4]
recipe = "minesweeper-tiny"
evaluate.env.num_mines = 4
tasks = 30
"""


def test_what_is_only_evaluated_otherwise_is_not_trained_again(tmp_path):
    by_name = {cell.name: cell for cell in study(tmp_path, SMALL + EVALUATED).cells()}
    ours, same, other = (by_name[name] for name in ("mines-ours-0", "mines4-ours-0", "mines4-ours-1"))
    assert same.config.env.num_mines == 5 and same.evaluated.env.num_mines == 4 and same.tasks == 30
    assert ours.evaluated == ours.config and same.settings() != ours.settings()
    assert ours.training == same.training != other.training
    run = tmp_path / "runs" / "anything"
    (run / "model").mkdir(parents=True)
    trained = replace(ours.config, name="anything", train=replace(ours.config.train, num_threads=2))
    (run / "config.json").write_text(to_json(trained))
    lines = "{}\n" * trained.train.iterations
    (run / "metrics.jsonl").write_text(lines[3:])
    assert run_of(same, run.parent) == run.parent / same.config.name  # one iteration is missing
    (run / "metrics.jsonl").write_text(lines)
    assert run_of(same, run.parent) == run_of(ours, run.parent) == run
    assert run_of(other, run.parent) == run.parent / other.config.name
    (run.parent / same.config.name).mkdir()  # its own run, which an earlier start has begun
    assert run_of(same, run.parent) == run.parent / same.config.name


@pytest.mark.parametrize(
    ("name", "parts", "trained_by"),
    [
        ("exploration", {"minesweeper", "sokoban"}, ("main", "credit")),
        ("exploration", {"controls"}, ("hidden",)),
        ("transfer", {"old_rules", "dead_words"}, ("hidden",)),
    ],
)
def test_studies_that_only_evaluate_train_nothing_of_their_own(name, parts, trained_by):
    known = {cell.training for other in trained_by for cell in load(other).cells()}
    cells = [cell for cell in load(name).cells() if cell.part in parts and cell.arm.train]
    assert {cell.part for cell in cells} == parts
    assert {cell.training for cell in cells} <= known


def test_new_rules_are_played_on_the_boards_of_the_old_ones():
    """Parts of `transfer` that differ in training alone: what they play is one panel, of rules held out."""
    cells = {(c.part, c.arm.name): c for c in load("transfer").cells() if c.seed == 0}
    for arm in ("lamer", "gigpo_3e4"):
        old, new = cells["old_rules", arm], cells["new_rules", arm]
        assert old.evaluated.env == new.evaluated.env and new.config.env.held_out_rules
        assert not old.config.env.held_out_rules


def test_two_cells_of_one_training_never_run_at_the_same_time(tmp_path):
    cells = study(tmp_path, SMALL + EVALUATED).cells()
    assert [cell.name for cell in cells[:4]] == [
        "mines-ours-0",
        "mines-base-0",
        "mines4-ours-0",
        "mines4-base-0",
    ]
    assert next_of(cells[2:], cells[:1]) is cells[3] and next_of(cells[2:3], cells[:1]) is None
