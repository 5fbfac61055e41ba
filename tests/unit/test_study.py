"""Studies: what a file may say, what its results are worth, and that no cell is believed blindly."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamer_fast.config.resolve import to_json
from lamer_fast.eval.success import pass_at, success_within, summarize
from lamer_fast.model.path import SHIPPED
from lamer_fast.study import on_model
from lamer_fast.study.cell import budget_of
from lamer_fast.study.estimates import over_seeds_and_tasks, paired
from lamer_fast.study.origin import origin, sentence
from lamer_fast.study.read import LABS, load, names
from lamer_fast.study.result import CellResult, Played, changed, curve_of, digits_of
from lamer_fast.study.reuse import run_of
from lamer_fast.study.runner import next_of
from lamer_fast.study.stored import read_results, result_path, take_over
from lamer_fast.study.summary import after_failures, best_mode, share, summaries
from lamer_fast.study.tables import tables_of

ROOT = Path(__file__).parents[2]
SMALL = """
question = "Which?"
seeds = [0, 1]
[parts.mines]
recipe = "minesweeper-tiny"
[modes.notes]
eval.memory = "both"
[modes.history]
eval.memory = "history"
[arms.ours]
doc = "trials"
[arms.base]
trained = false
"""


def study(tmp_path, text=SMALL, name="small.toml"):
    (tmp_path / name).write_text(text)
    return load(str(tmp_path / name))


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
        model = json.loads((SHIPPED[cell.config.model.path] / "config.json").read_text())
        for config in (cell.config, cell.evaluated):
            assert config.rollout.max_sequence_tokens <= model["max_position_embeddings"], cell.name


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


CELL = json.dumps(
    {"format": 1, "study": "s", "part": "mines", "arm": "ours", "seed": 0, "settings": {}}
    | {
        "splits": {
            key: {"panel": "p", "episodes": 3, "modes": {"notes": "0123"}} for key in ("valid", "test")
        }
    }
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CELL[: len(CELL) // 2], "no result of a cell"),
        ("", "no result of a cell"),
        ("[]", "no result of a cell"),
        (CELL.replace('"format": 1', '"format": 7'), "it has format 7, this version reads 1"),
        (CELL.replace('"seed": 0', '"seed": NaN'), "NaN is no number"),
        (CELL.replace('"valid"', '"train"'), "'valid'"),
        (CELL.replace('"0123"', '"0124"'), "valid: notes has '4' for a board, must be one of 0123"),
        (CELL.replace('"notes"', '"attempts": "00", "notes"'), "valid: attempts has 2 boards, notes 4"),
        (CELL.replace('{"notes": "0123"}', "{}"), "valid has no mode"),
        (CELL.replace('"0123"', '""'), "valid has no mode, or one without boards"),
        (CELL.replace('"episodes": 3', '"episodes": "3"'), "episodes = '3', must be from 1 to 35"),
        (CELL.replace('"episodes": 3', '"episodes": 36'), "episodes = 36, must be from 1 to 35"),
        (CELL.replace('"notes"', '"history"', 1), "valid has the modes ['history'], test ['notes']"),
        (CELL.replace('"settings": {}', '"settings": {}, "facts": null'), "facts = None, must be an object"),
        (CELL.replace('"settings": {}', '"settings": {}, "budget": {"updates": 1e999}'), "budget has inf"),
        (
            CELL.replace('"settings": {}', '"settings": {}, "curve": {"iteration": [1], "entropy": []}'),
            "curve has lists of unlike lengths",
        ),
        (
            CELL.replace('"modes": {"n', '"measures": {"notes": {"states": ["x"]}}, "modes": {"n'),
            "valid: states of notes has 'x', must be a finite number",
        ),
        (CELL.replace('"settings"', '"other": 1, "settings"'), "unexpected keyword argument 'other'"),
    ],
)
def test_a_damaged_result_is_told_by_its_name_and_in_one_line(tmp_path, text, message):
    path = tmp_path / "cells" / "mines-ours-0.json"
    path.parent.mkdir()
    path.write_text(CELL)
    CellResult.read(path)
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mines-ours-0\.json is no result of a cell") as error:
        CellResult.read(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_not_finite_is_left_out_of_a_result():
    metrics = [{"iteration": 0, "success_at": [0.5], "entropy": float("nan")}]
    assert curve_of(metrics) == {"iteration": [1], "success_at": [[0.5]], "entropy": [None]}


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


def test_what_is_kept_of_a_board_gives_back_the_evaluation():
    rng = np.random.default_rng(0)
    trials = rng.random((50, 3)) < 0.4
    trials[:, 1:] &= ~np.logical_or.accumulate(trials, axis=1)[:, :-1]  # a trial ends at its first success
    attempts = rng.random((50, 3)) < 0.4
    tasks = [str(i) for i in range(50)]
    found = summarize("test", success_within(trials), pass_at(attempts), attempts_per_task=3, tasks=tasks)
    played = Played("panel", 3, {key or "notes": text for key, text in digits_of(found).items()})
    np.testing.assert_array_equal(played.success("notes"), success_within(trials))
    np.testing.assert_allclose(played.success("attempts"), pass_at(attempts))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Seeds and tasks both vary: an interval over tasks alone holds it in about half of the draws."""
    rng = np.random.default_rng(1)
    hits, naive = [], []
    for _ in range(300):
        by_seed, by_task = rng.normal(0, 0.08, (5, 1)), rng.normal(0, 0.2, (1, 200))
        values = 0.5 + by_seed + by_task + rng.normal(0, 0.3, (5, 200))
        found = over_seeds_and_tasks(values, draws=300)
        hits.append(found.low <= 0.5 <= found.high)
        alone = over_seeds_and_tasks(values.mean(axis=0, keepdims=True), draws=300)
        naive.append(alone.low <= 0.5 <= alone.high)
    assert 0.87 <= np.mean(hits) <= 0.99
    assert np.mean(naive) < 0.75


def test_equal_values_have_no_width_and_pairs_cancel():
    same = np.full((3, 10), 0.5)
    assert over_seeds_and_tasks(same).low == over_seeds_and_tasks(same).high == 0.5
    values = np.random.default_rng(2).random((3, 40))
    assert paired(values, values).high == 0.0
    shifted = paired(values + 0.1, values)
    np.testing.assert_allclose((shifted.low, shifted.mean, shifted.high), 0.1, atol=1e-12)
    assert paired(values, values[:2]).low < paired(values, values[:2]).high


def result(cell, notes, history, attempts, valid=None):
    test = Played("panel of test", 3, {"notes": notes, "history": history, "attempts": attempts})
    chosen = test if valid is None else Played("panel of valid", 3, valid)
    return CellResult(
        "small", cell.part, cell.arm.name, cell.seed, cell.settings(), {"valid": chosen, "test": test},
        budget={"episodes": 10.0} if cell.arm.train else {},
    )  # fmt: skip


def test_the_way_to_evaluate_is_chosen_on_valid_alone(tmp_path):
    found = study(tmp_path)
    on_valid = {"notes": "1110", "history": "0000", "attempts": "0000"}

    def made(cell):
        if cell.arm.train:
            return result(cell, "0000", "1111", "1111", on_valid)
        return result(cell, "1100", "0000", "0000")

    results = {cell.name: made(cell) for cell in found.cells()}
    assert {r.splits["valid"].panel for r in results.values()} == {"panel of valid", "panel of test"}
    with pytest.raises(ValueError, match="played panel"):
        summaries(found, results)
    results = {
        name: replace(r, splits={**r.splits, "valid": replace(r.splits["valid"], panel="valid")})
        for name, r in results.items()
    }
    ours, base = summaries(found, results)
    assert ours.mode == "notes" and ours.within[-1].mean == 0.0  # though `history` wins all of test
    assert best_mode(base.results, base.arm) == "notes" and base.within[0].mean == 0.5
    assert base.lead is not None and base.lead.mean == -0.5
    text = "\n".join(
        table.markdown() + table.csv() + table.latex() for table in tables_of(found, [ours, base])
    )
    assert "50.0" in text and r"success@1" in text


def test_a_result_of_other_settings_is_not_believed(tmp_path):
    found = study(tmp_path)
    cell = found.cells()[0]
    kept = result(cell, "1", "1", "1")
    path = result_path(tmp_path, cell)
    kept.write(path)
    assert read_results(tmp_path, found.cells())[cell.name].settings == cell.settings()
    other = study(tmp_path, SMALL.replace("[arms.ours]", "[arms.ours]\nlearn.lr = 5e-4"), "other.toml")
    assert changed(CellResult.read(path), other.cells()[0]).startswith("learn.lr was 0.001")
    with pytest.raises(ValueError, match=r"other settings: learn\.lr was 0\.001, the study says 0\.0005"):
        read_results(tmp_path, other.cells())
    path.write_text("{")
    with pytest.raises(ValueError, match="no result of a cell"):
        read_results(tmp_path, found.cells())


def test_what_another_study_has_found_by_the_same_settings_is_taken_over(tmp_path):
    found = study(tmp_path)
    cell = next(cell for cell in found.cells() if cell.arm.train)
    result(cell, "12", "00", "00").write(result_path(tmp_path / "small", cell))
    renamed = SMALL.replace("arms.ours", "arms.same").replace("seeds = [0, 1]", "seeds = [0, 1, 2]")
    other = study(tmp_path, renamed, "other.toml")
    assert take_over(tmp_path / "other", other.cells()) == ["mines-same-0"]
    taken = read_results(tmp_path / "other", other.cells())
    assert list(taken) == ["mines-same-0"] and taken["mines-same-0"].study == "other"
    evaluated = study(tmp_path, renamed.replace('eval.memory = "history"', "eval.top_k = 3"), "third.toml")
    assert take_over(tmp_path / "third", evaluated.cells()) == []  # other modes: other numbers


def test_cells_of_a_lab_and_damaged_ones_of_other_studies_are_left_alone(tmp_path):
    cell = study(tmp_path).cells()[0]
    for other, text in (("lab", '{"format": 1, "settings": {}}'), ("damaged", CELL[:40])):
        path = tmp_path / other / "cells" / f"{cell.name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert take_over(tmp_path / "small", [cell]) == []


def test_boards_without_a_value_do_not_count():
    values = np.random.default_rng(3).random((3, 200))
    there = over_seeds_and_tasks(values)
    more = np.concatenate([values, np.full((3, 50), np.nan)], axis=1)
    found = over_seeds_and_tasks(more)
    assert found.mean == there.mean
    np.testing.assert_allclose((found.low, found.high), (there.low, there.high), atol=0.01)


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


def test_an_arm_is_evaluated_by_the_modes_that_it_names(tmp_path):
    found = study(tmp_path, SMALL + '[arms.shot]\ntrained = false\nmodes = ["attempts"]\n')
    shot = next(cell for cell in found.cells() if cell.arm.name == "shot")
    assert shot.modes == () and not any(key.startswith("study.modes") for key in shot.settings())
    test = Played("panel", 3, {"notes": "1111", "history": "1111", "attempts": "0001"})
    assert (
        best_mode([replace(result(shot, "", "", ""), splits={"valid": test, "test": test})], shot.arm)
        == "attempts"
    )
    with pytest.raises(ValueError, match=r"arms.shot.modes has 'note'; there are: notes, history, attempts"):
        study(tmp_path, SMALL + '[arms.shot]\nmodes = ["note"]\n')


def test_the_last_episode_counts_where_none_before_had_won():
    """Two seeds, five boards: of the boards that were lost before, two of three each."""
    within = [Played("panel", 3, {"own": digits}).success("own") for digits in ("10323", "12303")]
    assert after_failures(np.stack(within)).mean == pytest.approx((2 / 3 * 3 + 2 / 3 * 3) / 6)
    assert after_failures(np.stack(within)[:, :3]).mean == pytest.approx(2 / 3)  # 0, 3 | 3
    assert share(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).low == 0  # few seeds, spread below nothing
    assert after_failures(np.stack(within)[..., :1]) is None  # one episode has none before it
    assert after_failures(np.stack([within[0][:1], within[1][:1]])) is None  # all had won


def test_of_independent_attempts_the_last_counts_by_how_often_the_others_fail():
    """Three attempts that win 0, 1, 2 and 3 times: two of them fail in 3, 1, 0 and 0 of the 3 pairs, and then
    the third one wins for the board that wins once."""
    attempts = Played("panel", 3, {"attempts": "0123"}).success("attempts")
    found = after_failures(attempts[None])
    assert found is not None and found.mean == pytest.approx((1 / 3) / (3 / 3 + 1 / 3))


# of grids; the gradient lab has its own
JOINED = {"harder": "won within k", "transfer": "won within k", "roles": "last"}
STUDIES = sorted({path.name for path in (ROOT / "benchmarks" / "studies").iterdir()} - {"gradient"})


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_has_the_tables_of_the_committed_cells(name):
    folder = ROOT / "benchmarks" / "studies" / name
    found = load(name)
    rows = summaries(found, read_results(folder, found.cells()))
    tables, made = tables_of(found, rows), origin([result for row in rows for result in row.results])
    text = "\n".join(f"{table.title}\n\n{table.markdown()}\n" for table in [*tables, made])
    assert (folder / "tables.md").read_text() == text
    shown = (ROOT / "docs" / "study.md").read_text()
    said = re.findall(rf"<!-- cells: {name} (\S+) -->\n(.*?)\n<!-- end -->", shown, re.DOTALL)
    told = {row[0]: sentence(row) for row in made.rows}  # python benchmarks/tables.py docs/study.md
    assert {part: " ".join(text.split()) for part, text in said}.items() <= told.items()
    whole = f"<!-- cells: {name} -->\n{made.markdown()}\n<!-- end -->" in shown
    assert whole or told.keys() == {part for part, _ in said}
    if name in JOINED:  # several tables in one
        for table in tables:
            told = [cell for row in table.rows for cell in row[1:] if "[" in cell]
            assert JOINED[name] not in table.title or all(cell in shown for cell in told)
        return
    for table in tables if name == "main" else tables[:1]:
        assert table.markdown() in shown
    readme = (ROOT / "README.md").read_text()
    if name == "hidden":
        won = {row[0]: row[4] for row in tables[0].rows}
        regret = {row[0]: row[4] for row in tables[1].rows}
        best = float(won["lamer"].split()[0]) + float(regret["lamer"].split()[0])
        for told in (f"{won['lamer']} %", f"{won['gigpo']} %", f"{best:.1f} %"):
            assert told in readme
    if name == "main":
        rows = {row[0]: row for row in tables[0].rows}
        for arm in ("base", "gigpo", "grpo", "lamer"):
            first, second = (rows[arm][column].split()[0] for column in (2, 3))
            third = rf"(\*\*)?{re.escape(rows[arm][4])}"
            assert re.search(rf"\| {first} \| {second} \| {third}", readme), arm
        after = {row[0]: row for row in tables[2].rows}
        seen, unseen, other = after["lamer"][1], after["lamer"][3].split()[0], after["gigpo"][1].split()[0]
        assert all(f"{told} %" in readme for told in (seen, unseen, other))
