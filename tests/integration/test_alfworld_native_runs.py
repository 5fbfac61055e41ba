"""ALFWorld's tiny recipes, played natively: two iterations of a tiny model, and their warm start."""

import json

import pytest

from lamer_fast import cli
from lamer_fast.config import resolve

pytestmark = pytest.mark.long
SMALL = [
    "--rollout.groups=2", "--rollout.trials-per-group=2", "--rollout.max-turns=2", "--train.num-threads=1",
    "--rollout.max-reply-tokens=6", "--rollout.max-reflection-tokens=6", "--train.iterations=2",
    "--rollout.max-sequence-tokens=8192", "--eval.every=0", "--name=home",
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_tiny_recipes_are_twins():
    lamer, other = resolve.load("alfworld-tiny"), resolve.load("alfworld-tiny-gigpo")
    assert lamer.env == other.env and lamer.learn == other.learn and lamer.train == other.train
    own, its = lamer.rollout, other.rollout
    assert (
        own.groups * own.trials_per_group * own.episodes == its.groups * its.trials_per_group * its.episodes
    )


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("alfworld-tiny", ["--rollout.context=turn", "--env.show-actions=true"]),
        ("alfworld-tiny", []),
        ("alfworld-tiny-gigpo", []),
    ],
)
def test_two_iterations_of_a_tiny_model(recipe, changes, tmp_path, tiny_folder):
    runs = ["train", recipe, "--runs", str(tmp_path), f"--model.path={tiny_folder}"]
    assert cli.main([*runs, *SMALL, *changes]) == 0
    records = [json.loads(line) for line in (tmp_path / "home" / "metrics.jsonl").open()]
    assert [record["counters"]["updates"] for record in records] == [2, 2]
    assert not any(record.get("failed_trials") for record in records)


def test_a_warm_start_has_words_and_an_expert(tmp_path):
    small = [
        "--updates=2", "--decay-updates=1", "--warmup-updates=1", "--trials=4", "--eval-tasks=4",
        "--eval-every=1",
    ]  # fmt: skip
    assert cli.main(["warmstart", "alfworld-tiny-base", "--out", str(tmp_path / "base"), *small]) == 0
    first, last = map(json.loads, (tmp_path / "base" / "warmstart.jsonl").read_text().splitlines())
    assert last["valid_loss"] < first["valid_loss"] and len(last["success_at"]) == 3
