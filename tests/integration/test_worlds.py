"""Two iterations of LaMer, and of ordinary RL, on each world by its recipe, with a tiny random model."""

import json

import pytest

from tests.integration.tiny_run import train_main

pytestmark = pytest.mark.long
TO_TINY = [
    "--rollout.groups", "2", "--rollout.max-turns", "2", "--rollout.max-reply-tokens", "6",
    "--rollout.max-reflection-tokens", "6", "--env.prompt", "compact", "--env.workers", "1",
    "--model.dtype", "float32", "--learn.minibatches", "2", "--learn.lr", "1e-3", "--eval.every", "0",
    "--train.iterations", "2", "--train.num-threads", "1", "--train.device", "cpu", "--name", "run",
]  # fmt: skip
RECIPES = {
    "frozenlake-qwen3-0.6b": "gymnasium",
    "mastermind-qwen3-0.6b": "textarena",
    "countdown-qwen3-0.6b": "reasoning_gym",
    "textworld-qwen3-0.6b": "textworld",
}


@pytest.mark.parametrize("twin", ["", "-gigpo"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_of_worlds_run_with_a_tiny_model(tmp_path, tiny_folder, recipe, twin, request):
    package = RECIPES[recipe]
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    groups = "3" if twin else "2"
    overrides = [*TO_TINY, "--model.path", str(tiny_folder), "--rollout.trials-per-group", groups]
    if package == "textworld":
        overrides += ["--env.games", str(request.getfixturevalue("textworld_games"))]
    assert train_main(f"{recipe}{twin}", tmp_path, *overrides) == 0
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [record["counters"]["updates"] for record in records] == [2, 2]
    assert [len(record["success_at"]) for record in records] == [1 if twin else 3] * 2
    assert not any(record.get("failed_trials") for record in records)
