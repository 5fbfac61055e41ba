"""Whole runs on a CUDA device: resumed as if never stopped, and twice the same."""

import json

import pytest
import torch

from tests.integration.tiny_run import recipe_file, train_main
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "model"
    tokenizer = tiny_tokenizer()
    tiny_model("qwen3", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    changes = {"device": "cuda", "iterations": 2, "save_every": 1, "deterministic": True}
    return recipe_file(tmp_path, folder, **{f"train__{name}": value for name, value in changes.items()})


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    torch.use_deterministic_algorithms(False)


def metrics(folder):
    lines = (folder / "tiny" / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_goes_on_from_its_checkpoint(recipe, tmp_path, dtype):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = ("--model.dtype", dtype, "--train.iterations")
    assert train_main(recipe, whole, *flags, "3") == 0
    for iterations in ("1", "3"):
        assert train_main(recipe, parts, *flags, iterations) == 0
    assert metrics(parts) == metrics(whole)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_equal_runs_are_equal(recipe, tmp_path, dtype):
    runs = [tmp_path / name for name in ("first", "second")]
    for folder in runs:
        assert train_main(recipe, folder, "--model.dtype", dtype) == 0
    assert metrics(runs[0]) == metrics(runs[1])


def test_the_optimizer_may_leave_the_device(recipe, tmp_path):
    assert train_main(recipe, tmp_path / "stays") == 0
    assert train_main(recipe, tmp_path / "leaves", "--learn.offload-optimizer", "rollout") == 0
    assert metrics(tmp_path / "leaves") == metrics(tmp_path / "stays")
