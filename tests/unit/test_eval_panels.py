"""Panels of a recipe, records of evaluations as files, and two records paired by task."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.cli.eval import OWN, plans_of, play_panels, record_of
from lamer_fast.cli.eval_output import Output
from lamer_fast.config import resolve as recipe
from lamer_fast.config.panels import panels_of
from lamer_fast.eval.record import differences, read_record
from lamer_fast.eval.success import pass_at, success_within, summarize
from lamer_fast.eval.table import difference_table, table
from lamer_fast.files import read_jsonl
from tests.scripted import ScriptedSampler
from tests.tiny import tiny_tokenizer

PANELS = "more: num_mines=6; other: split=valid height=4"
SMALL = {"rollout.max_turns": 2, "eval.episodes": 2}


def config_with(panels=PANELS, **values):
    return recipe.apply(recipe.load("minesweeper-tiny"), SMALL | {"eval.panels": panels} | values)


class Clicker(ScriptedSampler):
    """Opens the cells in order; a reflection is a word."""

    def __init__(self, renderer):
        super().__init__(renderer, lambda trial, n: f"<action>({n % 5}, {n // 5 % 3})</action>")

    def submit(self, request):
        self.released.discard(request.trial)
        super().submit(request)


def evaluation(config, **options):
    renderer = ChatRenderer(tiny_tokenizer())
    plans = plans_of(config, "test", 6)
    found = play_panels(Clicker(renderer), renderer, plans, **options)
    return plans, record_of("clicker", config, found)


def test_a_recipe_lists_panels_as_tables_and_the_command_as_text(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        '[env]\nname = "sokoban"\n[eval.panels.more]\nnum_boxes = 3\ntrack_dead = true\n'
        '[eval.panels."cool+pick2/unseen"]\nsplit = "valid"\nlevels = "a b.txt"\n'
    )
    config = recipe.resolve(str(path))
    more, other = panels_of(config.eval.panels, config.env)
    assert (more.name, more.split, more.env) == (
        "more",
        None,
        replace(config.env, num_boxes=3, track_dead=True),
    )
    assert (other.name, other.split, other.env.levels) == ("cool+pick2/unseen", "valid", "a b.txt")
    written = tmp_path / "config.json"
    written.write_text(recipe.to_json(config))
    assert recipe.read_config(written) == config
    assert panels_of(recipe.resolve(str(path), ["--eval.panels", ""]).eval.panels, config.env) == []


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        ("more", "must be NAME: option=value"),
        ("a b: height=4", "must be NAME: option=value"),
        ("more: num_mines", "'num_mines' must be option=value"),
        ("more: num_mines=many", "num_mines = 'many', must be int"),
        ("more: num_boxes=2", "minesweeper has no option 'num_boxes'"),
        ("more: num_mines=99", "contradicts|must be|at most"),
        ("more: split=unseen", "split = 'unseen', must be one of: train, valid, test"),
        ("a: height=4; a: height=3", "names 'a' twice"),
        ("a: height='4", "No closing quotation"),
    ],
)
def test_a_wrong_panel_is_refused_by_name(panels, message):
    with pytest.raises(ValueError, match=message):
        recipe.resolve("minesweeper-tiny", ["--eval.panels", panels])


def test_panels_are_played_side_by_side_and_are_on_the_table():
    plans, record = evaluation(config_with())
    assert [(p.name, p.played.split, len(p.played)) for p in plans] == [
        (OWN, "test", 6),
        ("more", "test", 6),
        ("other", "valid", 6),
    ]
    assert len({p.played.digest for p in plans}) == 3
    for plan in plans:
        found = record.panels[plan.name]
        assert found.panel == plan.played.digest
        assert found.by_task.tasks == [f"{task:016x}" for task in plan.played.tasks.tolist()]
        means = np.mean(found.by_task.trial, axis=0)
        assert [e.mean for e in found.trial] == pytest.approx(means.tolist())
    text = table({name or "own": found for name, found in record.panels.items()})
    for plan in plans:
        assert f"panel {plan.played.digest}" in text and f"\n{plan.name or 'own'}: trials" in text


def test_a_record_is_read_as_it_was_written_and_its_trials_are_kept(tmp_path, capsys):
    config = config_with()
    plans = plans_of(config, "test", 6)
    output = Output(tmp_path / "e", None, {plan.name: plan.played.digest for plan in plans})
    _, record = evaluation(config, keep=output.keep)
    output.show(record)
    again = read_record(tmp_path / "e" / "record.json")
    assert again.panels == record.panels
    trials = read_jsonl(tmp_path / "e" / "trials.jsonl.gz")
    assert [t.get("panel", OWN) for t in trials] == [OWN] * 6 + ["more"] * 6 + ["other"] * 6
    assert [t["trial"] for t in trials[:6]] == list(range(6))
    within = success_within(np.array([t["success_by_episode"] for t in trials[:6]]))
    assert within.tolist() == record.panels[OWN].by_task.trial
    page = (tmp_path / "e" / "report.html").read_text()
    assert '"by_task"' not in page and plans[1].played.digest in page
    assert "report: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds an evaluation already"):
        Output(tmp_path / "e", None, {})


def test_two_records_are_paired_by_task_and_other_tasks_refused(tmp_path, capsys):
    plans, record = evaluation(config_with())
    path = tmp_path / "before.json"
    record.write(path)
    digests = {plan.name: plan.played.digest for plan in plans}
    Output(None, path, digests).show(record)
    out = capsys.readouterr().out
    assert "clicker minus clicker, paired by task" in out and "\nmore: trials" in out
    with pytest.raises(ValueError, match=rf"digest 00ff now, but {digests['more']} in "):
        Output(None, path, digests | {"more": "00ff"})
    with pytest.raises(ValueError, match=r"none of \['else'\]"):
        Output(None, path, {"else": "00ff"})


def test_the_paired_interval_is_that_of_the_differences():
    rng = np.random.default_rng(0)
    skill = rng.random((200, 1))
    a, b = (rng.random((200, 3)) < skill**power for power in (0.5, 1))
    tasks = [str(i) for i in range(200)]
    first, second = (
        summarize("test", success_within(x), pass_at(x), attempts_per_task=3, tasks=tasks) for x in (a, b)
    )
    found = differences(first, second)
    at3 = success_within(a)[:, 2] - success_within(b)[:, 2]
    assert found["trial"][2].mean == pytest.approx(at3.mean()) and found["trial"][2].low > 0
    assert len(found["independent"]) == 3
    assert "success@3" in difference_table("a", "b", {OWN: found})
    with pytest.raises(ValueError, match="is not known"):
        differences(first, replace(second, by_task=None))


def test_trials_alone_have_no_attempts(tmp_path):
    _, record = evaluation(config_with(None), attempts=False)
    found = record.panels[OWN]
    assert len(found.trial) == 2 and found.independent == [] and found.gain_over_independent is None
    record.write(tmp_path / "r.json")
    assert read_record(tmp_path / "r.json").panels == record.panels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "'list' object has no attribute"),
        ("{}", "it has no 'evaluation'"),
        (json.dumps({"format": 2}), "format 2, this version reads 1"),
        (json.dumps({"evaluation": {"split": "test"}}), "num_tasks"),
    ],
)
def test_what_is_no_record_is_told_with_its_file(content, message, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"r.json is no record.*{message}"):
        read_record(path)


def test_a_record_that_is_not_there(tmp_path):
    with pytest.raises(
        ValueError, match=r"none\.json is no record of an evaluation: No such file or directory"
    ):
        read_record(tmp_path / "none.json")
