"""ALFWorld's recipes through the trainer with a tiny random model, on games of our own making."""

import json

import pytest

from lamer_fast.config import resolve
from tests.integration.tiny_run import train_main

pytestmark = pytest.mark.long
RECIPE = "alfworld-qwen3-4b"
CPU = [
    "--learn.optimizer", "adamw", "--learn.offload-optimizer", "none", "--rollout.cache-tokens", "20_000",
    "--model.dtype", "float32", "--train.device", "cpu", "--train.num-threads", "1", "--name", "run",
]  # fmt: skip
TINY = [
    "--rollout.groups", "2", "--rollout.max-turns", "2", "--rollout.max-reply-tokens", "6",
    "--rollout.max-reflection-tokens", "6", "--env.prompt", "compact", "--learn.minibatches", "2",
    "--learn.lr", "1e-3", "--eval.every", "0", "--train.iterations", "2",
]  # fmt: skip
ENGINES = ["native", pytest.param("package", marks=pytest.mark.slow)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("twin", ["", "-gigpo"])
def test_two_iterations(tmp_path, tiny_folder, twin, engine):
    if engine == "package":
        pytest.importorskip("alfworld", reason="the package alfworld is not installed")
    where = ["--model.path", str(tiny_folder), "--env.data", "made:small", "--env.engine", engine]
    groups = ["--rollout.trials-per-group", "3" if twin else "2", "--env.workers", "1"]
    assert train_main(RECIPE + twin, tmp_path, *CPU, *TINY, *where, *groups) == 0
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [record["counters"]["updates"] for record in records] == [2, 2]
    assert [len(record["success_at"]) for record in records] == [1 if twin else 3] * 2
    assert not any(record.get("failed_trials") for record in records)


@pytest.mark.parametrize("twin", ["", "-gigpo"])
def test_the_recipes_pass_a_dry_run_with_the_papers_limits(tmp_path, tiny_folder, twin, capsys):
    where = ["--model.path", str(tiny_folder), "--env.data", "made:full"]
    assert train_main(RECIPE + twin, tmp_path, "--dry-run", *CPU, *where) == 0
    out = capsys.readouterr().out
    assert '"env.task_types": "pick,look,clean,heat"' in out and '"rollout.max_turns": 10' in out
    panels = resolve.resolve(RECIPE + twin).eval.panels
    assert panels is not None and "cool+pick2" in panels and "first4/seen" in panels


def test_a_folder_without_games_is_refused_before_a_run_begins(tmp_path, tiny_folder, capsys):
    where = ["--model.path", str(tiny_folder), "--env.data", str(tmp_path / "none")]
    assert train_main(RECIPE, tmp_path / "runs", *CPU, *TINY, *where) == 2
    assert "there is no folder" in (said := capsys.readouterr().err) and "alfworld-download" in said
    assert not (tmp_path / "runs" / "run" / "metrics.jsonl").exists()
