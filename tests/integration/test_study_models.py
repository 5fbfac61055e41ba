"""Studies on real models: what a model's file may say, what its trainings need, a cell of each."""

import os
from dataclasses import replace

import pytest

from lamer_fast import cli
from lamer_fast.agent.prompts import PLAYS
from lamer_fast.config import resolve as recipe
from lamer_fast.study import on_model
from lamer_fast.study.cell import run_cell
from lamer_fast.study.read import load, names
from lamer_fast.study.stored import result_path
from tests.chat_families import FAMILIES
from tests.tiny import tiny_model

# model -> (kind of its layers, family of its template)
ARCHITECTURES = {
    "qwen3-0.6b": ("qwen3", "cuts thoughts, an empty block asked for"),
    "qwen3-1.7b": ("qwen3", "cuts thoughts, an empty block asked for"),
    "qwen3-4b": ("qwen3", "cuts thoughts, an empty block asked for"),
    "qwen3-0.6b-thinking": ("qwen3", "cuts thoughts, an empty block asked for"),
    "qwen3-1.7b-thinking": ("qwen3", "cuts thoughts, an empty block asked for"),
    "qwen3-4b-thinking": ("qwen3", "cuts thoughts, an empty block asked for"),
    "llama-3.2-1b": ("llama", "llama 3"),
    "llama-3.2-3b": ("llama", "llama 3"),
    "llama-3.1-8b": ("llama", "llama 3"),
    "smollm2-135m": ("llama", "chatml, a system prompt of its own"),
    "smollm2-360m": ("llama", "chatml, a system prompt of its own"),
    "smollm2-1.7b": ("llama", "chatml, a system prompt of its own"),
}
PROMPTED = ("zero_shot", "react", "reflexion")

OF_TINY = """
question = "Which?"
seeds = [0]
[parts.mines]
recipe = "minesweeper-tiny"
[parts.shop]
recipe = "shop-tiny"
[parts.forgetful]
recipe = "minesweeper-tiny"
model.path = "runs/forgetful"
[arms.lamer]
doc = "everywhere"
[arms.some]
parts = ["mines", "shop"]
[arms.buyer]
parts = ["shop"]
"""


def own_model(folder, name):
    """A model's file that extends a shipped one: random weights of its architecture, and little to play."""
    kind, family = ARCHITECTURES[name]
    tokenizer, eos = FAMILIES[family].make()
    model = tiny_model(kind, vocab_size=len(tokenizer))
    model.generation_config.eos_token_id = eos or tokenizer.eos_token_id
    model.save_pretrained(folder / "weights")
    tokenizer.save_pretrained(folder / "weights")
    (folder / "small.toml").write_text(
        f'extends = "{name}"\n[model]\npath = "weights"\ndtype = "float32"\n'
        "[rollout]\nmax_turns = 2\nmax_reply_tokens = 8\nmax_reflection_tokens = 8\ncache_tokens = 0\n"
        "max_sequence_tokens = 4096\n[eval]\nmin_tokens = 0\n"
        '[learn]\noptimizer = "adamw"\noffload_optimizer = "none"\nmax_microbatch_tokens = 4096\n'
        '[train]\ndevice = "cpu"\nnum_threads = 1\n'
    )


def test_every_model_is_one_that_is_tested_here():
    assert set(on_model.names()) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_study_runs_on_it_by_the_recipes_of_the_games(name):
    study = load("main", name)
    cells = study.quick().cells()
    assert {cell.config.env.prompt for cell in cells} == {"full"}
    assert {cell.arm.name for cell in cells} == set(study.arms)
    (path,) = {cell.config.model.path for cell in cells}
    assert path.lower().replace("-instruct", "").rpartition("/")[2] == name.replace("-thinking", "")
    assert all(cell.config.model.thinking == name.endswith("-thinking") for cell in cells)
    assert all(cell.config.name.startswith(f"main-{name}-quick-") for cell in cells)
    critics = {cell.config.learn.critic_lr for cell in cells if cell.config.algo.estimator == "gae"}
    assert critics == {1e-5}
    assert all(cell.config.learn.critic_lr is None for cell in cells if cell.config.algo.estimator != "gae")


@pytest.mark.parametrize("name", names())
def test_every_study_can_run_on_a_real_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bases = [f"parts.{part}.model.path = 'runs/{part}'\n" for part in load(name).parts] * name.startswith(
        "teacher"
    )
    (tmp_path / "model.toml").write_text("extends = 'qwen3-0.6b'\n" + "".join(bases))
    study = load(name, "model.toml" if bases else "qwen3-0.6b")
    assert study.parts.keys() == load(name).parts.keys() and not study.left_out
    cells = study.quick().cells()
    assert {cell.part for cell in cells} == {*study.parts}
    for cell in cells:
        assert cell.config.env.prompt == cell.evaluated.env.prompt == "full"
        own = recipe.load(study.parts[cell.part].recipe)
        assert cell.config.learn.lr == own.learn.lr and not cell.arm.searched, "both are of the tiny models"
        for key in ("max_reply_tokens", "max_reflection_tokens", "max_sequence_tokens"):
            assert getattr(cell.evaluated.rollout, key) >= getattr(own.rollout, key), (cell.name, key)


@pytest.mark.parametrize("name", ["context", "harder", "transfer"])
def test_its_evaluations_fit_a_model_of_few_positions(name):
    limits = {c.evaluated.rollout.max_sequence_tokens for c in load(name, "smollm2-1.7b").quick().cells()}
    assert limits == {8192}


@pytest.mark.parametrize("world", ["hidden-controls", "hidden-neighbours"])
def test_a_real_model_plays_the_hidden_rules_on_the_same_boards(world):
    tiny, real = recipe.load(f"{world}-tiny"), recipe.load(f"{world}-qwen3-4b")
    same = replace(real.env, prompt=tiny.env.prompt, style=tiny.env.style)
    assert same == tiny.env and real.rollout.max_turns == tiny.rollout.max_turns
    game = {"hidden-controls": "sokoban", "hidden-neighbours": "minesweeper"}[world]
    paper = recipe.load(f"{game}-qwen3-4b")
    assert real.model == paper.model and real.eval == replace(paper.eval, panels=None)
    longer = {"max_turns": real.rollout.max_turns, "max_sequence_tokens": real.rollout.max_sequence_tokens}
    assert real.rollout == replace(paper.rollout, **longer)
    assert real.learn == replace(paper.learn, minibatches=real.learn.minibatches)


def test_prompting_arms_are_for_models_that_read_words():
    on_tiny = {cell.arm.name for cell in load("main").cells()}
    assert not on_tiny & set(PROMPTED)
    cells = {cell.arm.name: cell for cell in load("main", "qwen3-0.6b").cells() if cell.part == "sokoban"}
    asked = {name: PLAYS[cells[name].config.rollout.play_prompt] for name in (*PROMPTED, "base")}
    assert len(set(asked.values())) == 3 and asked["react"] == asked["reflexion"] != asked["base"]
    assert [mode.name for mode in cells["reflexion"].modes] == ["notes"]
    assert cells["react"].modes == cells["zero_shot"].modes == ()  # independent attempts alone


def test_what_a_models_file_cannot_say_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"no model 'qwen3-0\.6', did you mean 'qwen3-0\.6b'"):
        load("main", "qwen3-0.6")
    (tmp_path / "wrong.toml").write_text('extends = "qwen3-0.6b"\n[modell]\npath = "x"\n')
    with pytest.raises(ValueError, match=r"unknown key 'modell', did you mean 'model'"):
        load("main", "wrong.toml")
    (tmp_path / "mine.toml").write_text(
        'extends = "qwen3-0.6b"\nrecipes.hidden-controls-tiny = "sokoban-qwen3-4b"\n'
        'recipes.hidden-neighbours-tiny = "minesweeper-qwen3-4b"\n'
        "[arms.nobody]\nlearn.lr = 1.0\n"
    )
    study = load("hidden", "mine.toml")
    assert study.name == "hidden-mine" and "nobody" not in study.arms
    assert {cell.config.env.name for cell in study.cells()} == {"sokoban", "minesweeper"}


def test_what_cannot_be_played_on_it_is_left_out_and_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_tiny.toml").write_text(OF_TINY)
    study = load("of_tiny.toml", "qwen3-0.6b")
    assert [*study.parts] == ["mines"] and [*study.arms] == ["lamer", "some"]
    assert study.arms["some"].parts == ("mines",)
    line = (
        "left out on qwen3-0.6b: parts shop (no recipe in place of 'shop-tiny'), forgetful (model.path = "
        "'runs/forgetful' is its own); arms buyer (none of its parts is left)\n"
    )
    assert cli.main(["study", "of_tiny.toml", "--model", "qwen3-0.6b", "--list"]) == 0
    out, err = capsys.readouterr()
    assert err == line and out == "to do     mines-lamer-0\nto do     mines-some-0\n"
    (tmp_path / "mine.toml").write_text(
        'extends = "qwen3-0.6b"\n[parts.forgetful]\nmodel.path = "runs/qwen3-forgetful"\n'
    )
    study = load("of_tiny.toml", "mine.toml")
    paths = {cell.part: cell.config.model.path for cell in study.cells()}
    assert paths == {"mines": "Qwen/Qwen3-0.6B", "forgetful": "runs/qwen3-forgetful"}


def test_a_study_of_which_nothing_is_left_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"'qwen3-0\.6b' can play none of its parts: minesweeper_forgetful"):
        load("teacher", "qwen3-0.6b")
    (tmp_path / "none.toml").write_text(OF_TINY.replace('"minesweeper-tiny"', '"mines-tiny"'))
    with pytest.raises(ValueError) as error:
        load("none.toml", "qwen3-0.6b")
    for value in (
        "'qwen3-0.6b'",
        "mines (no recipe in place of 'mines-tiny')",
        "'runs/forgetful' is its own",
    ):
        assert value in str(error.value)
    assert "it has recipes in place of: hidden-controls-tiny," in str(error.value)
    (tmp_path / "wrong.toml").write_text(OF_TINY.replace("[parts.mines]", "[parts]\nmines = 3\n[parts.more]"))
    with pytest.raises(ValueError, match=r"parts\.mines = 3, must be a table"):
        load("wrong.toml", "qwen3-0.6b")


def test_a_models_file_takes_back_what_was_said_for_the_tiny_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('extends = "qwen3-0.6b"\nlearn.lr = 5e-6\n')
    assert {cell.config.learn.lr for cell in load("hidden", "mine.toml").cells()} == {5e-6}
    (tmp_path / "mine.toml").write_text('extends = "qwen3-0.6b"\n[arms.gigpo]\nlearn.lr = 2e-6\n')
    rates = {cell.arm.name: cell.config.learn.lr for cell in load("hidden", "mine.toml").cells()}
    assert rates == {"lamer": 1e-6, "base": 1e-6, "gigpo": 2e-6, "grpo": 1e-6, "own": 1e-6}


def test_a_dry_run_says_what_each_training_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own_model(tmp_path, "qwen3-0.6b")
    line = ["study", "main", "--model", "small.toml", "--only", "minesweeper-lamer-,minesweeper-gigpo"]
    assert cli.main([*line, "--gpu-memory", "80"]) == 2
    assert "--gpu-memory 80 is for --dry-run" in capsys.readouterr().err
    assert cli.main([*line, "--dry-run"]) == 0
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines() if "weights" in row]
    assert [(row[0].strip("| "), row[1], row[6]) for row in rows] == [
        ("minesweeper-lamer", "3", "yes"),
        ("minesweeper-gigpo", "3", "yes"),
    ]
    assert all(float(row[7]) > 0 for row in rows) and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "qwen3-0.6b-thinking" else pytest.mark.slow) for n in ARCHITECTURES],
)
def test_a_cell_of_its_architecture_runs(name, tmp_path, monkeypatch):
    """Random weights: what is trained and played is noise, but every stage of it runs."""
    monkeypatch.chdir(tmp_path)
    own_model(tmp_path, name)
    study = load("main", "small.toml").quick()
    small = {"rollout.trials_per_group": 2, "rollout.episodes": 2}
    arms = {name: study.arms[name] for name in ("lamer", "reflexion")}
    study = replace(study, tasks=2, arms=arms, settings=study.settings | small)
    by_name = {cell.name: cell for cell in study.cells()}
    for arm in arms:
        cell = by_name[f"minesweeper-{arm}-0"]
        assert run_cell(study, cell, result_path(tmp_path, cell), tmp_path / "runs")
    text = (tmp_path / "runs" / f"{study.name}-minesweeper-reflexion-0.test" / "report.html").read_text()
    assert '"phase":"play"' in text and '"phase":"reflect"' in text
    assert os.path.getsize(tmp_path / "runs" / f"{study.name}-minesweeper-lamer-0" / "model" / "config.json")


def test_a_cell_of_hidden_controls_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own_model(tmp_path, "qwen3-0.6b")
    study = load("hidden", "small.toml").quick()
    small = {"rollout.trials_per_group": 2, "rollout.episodes": 2}
    arms = {"lamer": study.arms["lamer"]}
    study = replace(study, tasks=2, arms=arms, settings=study.settings | small)
    cell = next(cell for cell in study.cells() if cell.part == "controls")
    assert run_cell(study, cell, result_path(tmp_path, cell), tmp_path / "runs")
    text = (tmp_path / "runs" / f"{cell.config.name}.test" / "report.html").read_text()
    assert '"phase":"play"' in text and '"phase":"reflect"' in text
