"""A run whose AdamW keeps its state in 8 bits: it goes on after a resume as if it had not stopped."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

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
