"""The record of an iteration: from what happened to a line of JSON that display and report read."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from lamer_fast.config import Config
from lamer_fast.learn.mismatch import Mismatch
from lamer_fast.learn.update import LearnStats
from lamer_fast.run.collection import Draws
from lamer_fast.run.display_table import training
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.measure import record_of
from lamer_fast.run.record import Evaluated, Record
from tests.hand_made import make_trials

CONFIG = replace(Config(), rollout=replace(Config().rollout, trials_per_group=2))
SECONDS = {"sample": 3.0, "env": 1.0, "learn": 2.0, "sync": 0.5}


def make_record(**found) -> Record:
    trials = make_trials(0, groups=2, trials_per_group=2, empty=(1,))
    stats = LearnStats(updates=2, empty=1, trained_tokens=7, lr=1e-3)
    stats.add({"loss": 3.0, "grad_norm": 1.0, "critic_loss": 5.0})
    advantages = np.full(trials.num_turns, -0.5, np.float32)
    return record_of(4, trials, advantages, [], stats, SECONDS, CONFIG, found)


def evaluated(iteration: int, won: float) -> Evaluated:
    bounds = [0.1, 0.2], [0.0, 0.1], [0.2, 0.3]
    return Evaluated(iteration, 9, "abc", [0.1, won], [0.0, 0.2], [0.3, 1.0], *bounds)


def test_values_are_those_of_the_iteration():
    record, trials = make_record(), make_trials(0, groups=2, trials_per_group=2, empty=(1,))
    assert record.loss == 1.5 and record.grad_norm == 0.5 and record.advantage_abs == 0.5
    assert record.seconds == SECONDS | {"sample": 2.0}
    assert record.tokens.prompt + record.tokens.sampled == len(trials.tokens)
    assert record.counters.groups_dropped == 1 and record.counters.failed_trials == 1
    assert record.others == {"critic_loss": 2.5}
    with pytest.raises(FrozenInstanceError):
        record.loss = 0.0


def test_first_episodes_of_a_group_are_independent_attempts_on_its_board():
    trials = make_trials(0, groups=2, trials_per_group=4, episodes=3)
    won = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], *[[0, 0, 1]] * 4], bool)
    config = replace(CONFIG, rollout=replace(CONFIG.rollout, trials_per_group=4))
    none, trials = np.zeros(trials.num_turns, np.float32), replace(trials, success_by_episode=won)
    record = record_of(4, trials, none, [], LearnStats(), SECONDS, config, {})
    assert record.success_at == [0.125, 0.25, 0.875]
    within_the_first_group = np.array([1 / 4, 2 / 4, 3 / 4])  # one of its four first episodes won
    assert record.independent == pytest.approx(within_the_first_group / 2)
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record
    config = replace(config, rollout=replace(config.rollout, trials_per_group=2))
    few = record_of(4, trials, none, [], LearnStats(), SECONDS, config, {})
    assert few.independent is None and "independent" not in few.to_json(), "three attempts need three trials"


def test_what_was_thrown_away_is_counted_and_does_not_choose_the_success():
    trials = make_trials(0, groups=2, trials_per_group=2)
    draws = Draws([0.1, 0.2, 0.3], [0.1, 0.1, 0.2], groups=5, flat_drawn=2, flat=1, prompt=70, sampled=30)
    none = np.zeros(trials.num_turns, np.float32)
    record = record_of(4, trials, none, [], LearnStats(), SECONDS, CONFIG, {}, draws=draws)
    assert record.success_at == [0.1, 0.2, 0.3] and record.score == 0.3
    assert record.independent == [0.1, 0.1, 0.2]
    assert record.tokens.sampled == trials.num_sampled + 30
    assert record.tokens.prompt == len(trials.tokens) - trials.num_sampled + 70
    assert record.others == {"groups_played": 5, "groups_flat_drawn": 2, "groups_flat": 1}
    shown = {column.name: column.value for column in training(Record.from_json(record.to_json()))}
    assert shown["played/flat/left"] == "5/2/1"


def test_json_goes_round_and_is_what_display_reads():
    record = make_record(eval_before=evaluated(0, 0.4), eval=evaluated(5, 0.5))
    line = json.loads(json.dumps(record.to_json(), allow_nan=False))
    assert line == record.to_json() and line["critic_loss"] == 2.5 and "others" not in line
    assert line["return"] == record.return_ and line["mismatch"]["ess"] == 1.0
    again = Record.from_json(line)
    assert again == record and again.to_json() == line
    assert [column.name for column in training(again)][:2] == ["iteration", "success@1"]
    assert [found.iteration for found in again.evaluations] == [0, 5]
    assert "eval" not in make_record().to_json()


@pytest.mark.parametrize("trainer", [math.nan, math.inf, 400.0, -400.0])
def test_an_iteration_without_finite_numbers_has_a_line_that_every_reader_takes(tmp_path, trainer):
    """Of one token what the trainer says is far from the sampler's: the run goes on, and says so."""
    gap = Mismatch.of([(torch.tensor([trainer]), torch.tensor([0.0]))])
    record = replace(make_record(), mismatch=gap, loss=math.nan, others={"critic_loss": math.inf})
    with RunFolder(CONFIG, tmp_path) as folder:
        folder.start(0)
        folder.write_metrics(record.to_json())
    written = json.loads(folder.metrics.read_bytes(), parse_constant=pytest.fail)
    assert written["loss"] is written["critic_loss"] is written["mismatch"]["ess"] is None
    assert written["entropy"] == record.entropy
    again = Record.from_json(written)
    assert all(map(math.isnan, (again.loss, again.mismatch.ess, again.others["critic_loss"])))
    assert again.to_json() == record.to_json()
    assert "mismatch" in [column.name for column in training(again)]


def test_records_of_earlier_versions_are_read():
    """The first kept no intervals, no panel and no iteration of an evaluation; a later one may keep more."""
    line = make_record(eval=evaluated(5, 0.5)).to_json()
    first = line | {"eval": {"success_at": [0.1, 0.5], "independent": [0.1, 0.2]}}
    found = Record.from_json(first).eval
    assert (found.iteration, found.success_at, found.success_low, found.panel) == (5, [0.1, 0.5], None, "")
    assert Record.from_json(first).to_json()["eval"].keys() == {
        "iteration", "tasks", "panel", "success_at", "independent"
    }  # fmt: skip
    later = Record.from_json(line | {"tokens": line["tokens"] | {"reused": 3}, "reused": 0.5})
    assert later.others == {"critic_loss": 2.5, "reused": 0.5}
    for name in ("entropy", "counters"):
        with pytest.raises(ValueError, match=f"record lacks {name}"):
            Record.from_json({key: value for key, value in line.items() if key != name})


def test_the_score_is_of_the_evaluation_where_there_is_one():
    assert replace(make_record(), success_at=[0.1, 0.7]).score == 0.7
    assert make_record(eval=evaluated(5, 0.25)).score == 0.25
