"""Studies on real models: what a model's file may say, what its trainings need, a cell of each."""

import os
from dataclasses import replace

import pytest

from lamer_fast import cli
from lamer_fast.agent.prompts import PLAYS
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
def test_every_study_of_the_two_games_can_run_on_a_real_model(name):
    if {part.recipe for part in load(name).parts.values()} <= {"minesweeper-tiny", "sokoban-tiny"}:
        models = ("qwen3-0.6b", "smollm2-1.7b") if name in ("harder", "transfer") else ("qwen3-0.6b",)
        assert all(load(name, model).quick().cells() for model in models)
    else:
        with pytest.raises(ValueError, match="has no recipe in place of"):
            load(name, "qwen3-0.6b")


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
    with pytest.raises(ValueError, match=r"no recipe in place of parts\.controls\.recipe"):
        load("hidden", "qwen3-0.6b")
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
