"""Runs in 8 bits or 4: AdamW's state goes on after a resume as if it had not stopped; a quantised base."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from lamer_fast import cli
from tests.integration.tiny_run import recipe_file, train_main

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")


def test_a_resumed_run_is_bitwise_the_same(tiny_folder, tmp_path):
    settings = {"learn__optimizer": "adamw_8bit", "train__iterations": 4, "train__keep_checkpoints": 4}
    recipe = recipe_file(tmp_path, tiny_folder, **settings)
    assert train_main(recipe, tmp_path / "runs", "--name", "one") == 0
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    one, two = (tmp_path / place / "one" / "checkpoints" for place in ("runs", "copy"))
    shutil.rmtree(two / "000004")
    assert train_main(recipe, tmp_path / "copy", "--name", "one") == 0
    files = sorted(path.name for path in (one / "000004").glob("*.safetensors"))
    states = {}
    for name in files:
        before, after = load_file(one / "000004" / name), load_file(two / "000004" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        states |= {key: x for key, x in before.items() if key.endswith("state1")}
    # 4,096 elements and more are kept in 8 bits, smaller tensors as they are
    assert {x.dtype for x in states.values()} == {torch.uint8, torch.float32}


def test_a_run_over_a_quantised_base_keeps_adapters_alone_and_is_evaluated(tiny_folder, tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    settings = {
        "model__lora_rank": 4,
        "model__base_format": "nf4",
        "train__iterations": 2,
        "algo__kl_coef": 0.1,
    }
    recipe = recipe_file(tmp_path, tiny_folder, **settings)
    assert train_main(recipe, tmp_path / "runs", "--name", "one") == 0
    saved = load_file(tmp_path / "runs" / "one" / "checkpoints" / "000002" / "masters.safetensors")
    assert saved and all(".lora_" in name for name in saved)
    for which in ("model", "adapter"):
        options = ["--model.path", str(tmp_path / "runs" / "one" / which), "--tasks", "2", "--no-attempts"]
        assert cli.main(["eval", str(recipe), *options, "--out", str(tmp_path / which)]) == 0
