"""WebShop through the trainer: recipes, a dry run, two iterations with a tiny model, a short warm start."""

import json

import pytest

pytest.importorskip("rapidfuzz", reason="webshop needs rapidfuzz")
pytest.importorskip("Stemmer", reason="webshop needs PyStemmer")

from lamer_fast import cli
from lamer_fast.config import resolve
from lamer_fast.envs.adapters.webshop import invent

pytestmark = pytest.mark.long
SMALL = [
    "--rollout.groups=2",
    "--rollout.trials-per-group=2",
    "--rollout.max-turns=3",
    "--train.num-threads=1",
]
SHORT = ["--rollout.max-reply-tokens=8", "--rollout.max-reflection-tokens=8"]


@pytest.mark.parametrize("twin", ["", "-gigpo"])
def test_the_recipes_agree_with_their_twins(twin):
    for name in ("webshop-tiny", "webshop-qwen3-4b"):
        lamer, other = resolve.load(name), resolve.load(f"{name}{twin}")
        assert lamer.env == other.env and lamer.learn == other.learn and lamer.train == other.train
        own, its = lamer.rollout, other.rollout
        assert (
            own.groups * own.trials_per_group * own.episodes
            == its.groups * its.trials_per_group * its.episodes
        )
    paper = resolve.load("webshop-qwen3-4b").rollout
    assert (paper.max_turns, paper.episodes, paper.max_reply_tokens) == (12, 3, 1024)


@pytest.mark.parametrize("recipe", ["webshop-qwen3-4b", "webshop-qwen3-4b-gigpo"])
def test_the_large_recipes_pass_a_dry_run_on_files_in_the_official_format(
    recipe, tmp_path, tiny_folder, capsys
):
    invent.main([str(tmp_path / "files")])
    there = [f"--env.data={tmp_path / 'files'}", f"--env.cache={tmp_path}", f"--model.path={tiny_folder}"]
    cpu = ["--learn.optimizer=adamw", "--learn.offload-optimizer=none", "--env.nouns=lexicon"]
    cpu += ["--rollout.max-sequence-tokens=16384", "--rollout.cache-tokens=20000"]
    assert cli.main(["train", recipe, "--runs", str(tmp_path / "runs"), "--dry-run", *there, *cpu]) == 0
    assert '"env.goals": "synthetic"' in capsys.readouterr().out


@pytest.mark.parametrize("recipe", ["webshop-tiny", "webshop-tiny-gigpo"])
@pytest.mark.parametrize("context", ["trial", "turn"])
def test_two_iterations_of_a_tiny_model(recipe, context, tmp_path, tiny_folder):
    where = [f"--env.cache={tmp_path}", f"--model.path={tiny_folder}", f"--rollout.context={context}"]
    large = [
        "--rollout.max-sequence-tokens=4096",
        "--train.iterations=2",
        "--name=shop",
        "--env.show-actions=true",
    ]
    assert cli.main(["train", recipe, "--runs", str(tmp_path), *where, *SMALL, *SHORT, *large]) == 0
    lines = (tmp_path / "shop" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines if "iteration" in line][-1] == 1


def test_a_warm_start_has_words_and_an_expert(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = [
        "--updates=2",
        "--decay-updates=1",
        "--warmup-updates=1",
        "--trials=4",
        "--eval-tasks=4",
        "--eval-every=1",
    ]
    assert cli.main(["warmstart", "webshop-tiny-base", "--out", str(tmp_path / "base"), *small]) == 0
    first, last = map(json.loads, (tmp_path / "base" / "warmstart.jsonl").read_text().splitlines())
    assert last["valid_loss"] < first["valid_loss"] and len(last["success_at"]) == 3
