"""Runs that train adapters: the base stays, resuming is exact, what is saved can be evaluated."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lamer_fast import cli
from lamer_fast.config import ModelConfig
from lamer_fast.config.resolve import resolve
from lamer_fast.learn.policy import load_policy
from lamer_fast.run.state import build_state
from lamer_fast.samplers.local.sampler import TorchSampler
from tests.integration.tiny_run import recipe_file, train_main
from tests.tiny import tiny_model

peft = pytest.importorskip("peft", reason="peft is not installed")
LORA = {"model__lora_rank": 4, "model__dtype": "bfloat16", "learn__lr": 1e-2, "algo__kl_coef": 0.1}


@pytest.fixture(scope="module")
def runs(tiny_folder, tmp_path_factory):
    """A run in runs/, and a copy of it in copy/."""
    place = tmp_path_factory.mktemp("adapters")
    recipe = recipe_file(place, tiny_folder, **LORA, train__iterations=4, train__keep_checkpoints=4)
    assert train_main(recipe, place / "runs", "--name", "one") == 0
    shutil.copytree(place / "runs", place / "copy")
    return place, recipe


def test_a_resumed_run_is_bitwise_the_same_and_keeps_only_adapters(runs):
    place, recipe = runs
    one, two = place / "runs" / "one", place / "copy" / "one"
    last = load_file(one / "checkpoints" / "000004" / "masters.safetensors")
    assert last and all(".lora_" in name and x.dtype is torch.float32 for name, x in last.items())
    for name in ("000003", "000004"):
        shutil.rmtree(two / "checkpoints" / name, ignore_errors=True)
    assert train_main(recipe, place / "copy", "--name", "one") == 0
    for name, x in load_file(two / "checkpoints" / "000004" / "masters.safetensors").items():
        assert torch.equal(x, last[name])


def test_what_is_saved_is_a_model_and_a_peft_folder(runs, tiny_folder):
    run = runs[0] / "runs" / "one"
    merged = AutoModelForCausalLM.from_pretrained(run / "model", dtype="auto")
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.bfloat16)
    settings = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_folder.resolve())
    ids = torch.arange(5, 40)[None]
    with torch.no_grad():
        before = base(ids).logits
        wrapped = peft.PeftModel.from_pretrained(base, run / "adapter")
        gap = (wrapped(ids).logits - merged(ids).logits).float().abs()
        assert float(gap.mean()) < 0.02 < float((before - merged(ids).logits).abs().mean())
    ours = load_policy(
        ModelConfig(path=str(run / "adapter"), dtype="float32"), torch.device("cpu"), frozen=True
    )
    for name, weight in ours.model.named_parameters():
        rounded = merged.get_parameter(name).float()
        two_roundings = 2 * 2**-8 * float(weight.abs().max())  # of the base, and of the sum
        torch.testing.assert_close(weight, rounded, rtol=0, atol=two_roundings)
    start = tiny_model().get_parameter("model.layers.0.mlp.up_proj.weight")
    moved = merged.get_parameter("model.layers.0.mlp.up_proj.weight").float()
    assert not torch.equal(moved, start.bfloat16().float())


@pytest.mark.parametrize("which", ["model", "adapter"])
def test_eval_takes_both(runs, which):
    place, recipe = runs
    folder = place / "runs" / "one" / which
    out = place / f"eval-{which}"
    options = ["--model.path", str(folder), "--tasks", "3", "--no-attempts", "--out", str(out)]
    assert cli.main(["eval", str(recipe), *options]) == 0
    assert (out / "record.json").is_file()


def test_an_adapter_of_another_base_names_both(runs, tmp_path, tiny_folder):
    adapter = tmp_path / "adapter"
    shutil.copytree(runs[0] / "runs" / "one" / "adapter", adapter)
    file = adapter / "adapter_config.json"

    def load(base: str):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
        return load_policy(ModelConfig(path=str(adapter)), torch.device("cpu"), frozen=True)

    wider = tmp_path / "wider"
    tiny_model(hidden_size=48).save_pretrained(wider)
    for file_name in tiny_folder.glob("*token*"):
        shutil.copy(file_name, wider)
    deeper = tmp_path / "deeper"
    shutil.copytree(wider, deeper)
    tiny_model(num_hidden_layers=3).save_pretrained(deeper)
    for base in (wider, deeper):
        with pytest.raises(ValueError, match="does not fit its base") as caught:
            load(str(base))
        assert str(adapter) in str(caught.value) and str(base) in str(caught.value)
    with pytest.raises(ValueError, match="its base '/no/such/base' is not there") as caught:
        load("/no/such/base")
    assert str(adapter) in str(caught.value)


@pytest.mark.parametrize("how", ["apart", "merged"])
def test_the_reference_is_no_copy_and_the_sampler_follows_the_recipe(tiny_folder, how):
    overrides = ["--model.lora-rank=4", "--algo.kl-coef=0.1", f"--rollout.adapter={how}"]
    config = resolve("minesweeper-tiny", [*overrides, "--train.device=cpu"])
    state = build_state(config)
    assert isinstance(state.sampler, TorchSampler) and state.sampler.shares_weights == (how == "apart")
    assert state.reference is not None and state.reference.policy is state.policy
