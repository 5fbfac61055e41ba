"""Adapters: what is trained, what stays, what the sampler and the files get."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from lamer_fast.algo.losses import Surrogate
from lamer_fast.config import AlgoConfig, LearnConfig, ModelConfig
from lamer_fast.learn.policy import BaseOf, Policy
from lamer_fast.learn.probe import check_transfer
from lamer_fast.learn.update import LearnStats
from lamer_fast.model.adapters import (
    adapted,
    adapter_parameters,
    add_adapters,
    merged_copy,
    merged_weights,
)
from lamer_fast.samplers.local.sampler import TorchSampler
from tests.tiny import tiny_model
from tests.unit.test_update import add_gradient, make_minibatches, make_state, make_update

peft = pytest.importorskip("peft", reason="peft is not installed")
LORA = ModelConfig(lora_rank=4, lora_alpha=8.0)
KINDS = [LORA, replace(LORA, dora=True), replace(LORA, lora_targets="q_proj, v_proj,down_proj")]
DTYPES = [torch.float32, torch.bfloat16]


def make_policy(config=LORA, dtype=torch.float32, seed=0, kind="qwen3") -> Policy:
    model = tiny_model(kind)
    add_adapters(model, config, dtype, seed)
    return Policy(model, None, dtype)


@torch.no_grad()
def disturb(policy: Policy, size=0.05) -> None:
    generator = torch.Generator().manual_seed(1)
    for master in policy.masters.values():
        master += size * torch.randn(master.shape, generator=generator)


def updates_arrive(policy: Policy, apart: TorchSampler) -> None:
    """In a sampler that has the adapter apart, and in one that has it merged; twice."""
    merged = TorchSampler(merged_copy(policy.model), max_sequence_tokens=128, shares_weights=False)
    for version in (1, 2):
        disturb(policy)
        for sampler in (apart, merged):
            sampler.load_weights(policy.weights_for(sampler), version)
            check_transfer(sampler, policy, PROMPT, 1.0)


def make_sampler(policy: Policy, **options) -> TorchSampler:
    return TorchSampler(policy.model, max_sequence_tokens=128, **options)


PROMPT = np.arange(5, 25, dtype=np.int32)


@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_policy_is_the_base_and_training_leaves_the_base_alone(config, dtype):
    _, _, (minibatch,), run = make_minibatches()
    policy, plain = make_policy(config, dtype), Policy(tiny_model(), None, dtype, frozen=True)
    packed = minibatch[0].packed
    tolerance = {"rtol": 0, "atol": 2e-6 if dtype is torch.float32 else 2e-2}
    first = plain.logprobs(packed, 1.0)
    torch.testing.assert_close(policy.logprobs(packed, 1.0), first, **tolerance)
    base = {name: p.clone() for name, p in policy.model.named_parameters() if name not in policy.masters}
    state = make_state(policy, replace(run, learn=LearnConfig(lr=1e-2, weight_decay=0.0)))
    for _ in range(3):
        make_update(state, minibatch, LearnStats())
    for name, parameter in policy.model.named_parameters():
        if name in base:
            assert parameter.dtype is dtype and torch.equal(parameter, base[name]) and parameter.grad is None
    assert all(m.dtype is torch.float32 for m in policy.masters.values())
    assert len(policy.masters) == (3 if config.dora else 2) * len(adapted(policy.model))
    assert set(state.optimizer.adamw.state) == set(policy.masters.values())  # of nothing else is any kept
    assert (policy.logprobs(packed, 1.0) - first).abs().max() > 5e-2
    torch.testing.assert_close(BaseOf(policy).logprobs(packed, 1.0), first, **tolerance)
    assert all(master.requires_grad for master in policy.masters.values())


@pytest.mark.parametrize("config", KINDS)
def test_gradients_are_those_of_the_merged_weights(config):
    """Autograd through merged weights, written out, against the layers beside the projections."""
    _, _, (minibatch,), _ = make_minibatches()
    policy = make_policy(config)
    disturb(policy)
    loss = add_gradient(policy, minibatch[0])
    plain = tiny_model()
    layers = adapted(policy.model)
    leaves = {
        name: {k: p.detach().clone().requires_grad_() for k, p in adapter_parameters(layer).items()}
        for name, layer in layers.items()
    }
    weights = {name: p for name, p in plain.named_parameters()}
    for name, own in leaves.items():
        w = weights[f"{name}.weight"].detach()
        w = w + own["lora_B.default.weight"] @ own["lora_A.default.weight"] * (8.0 / 4)
        if config.dora:
            norm = torch.linalg.vector_norm(w, dim=1).detach()
            w = (own["lora_magnitude_vector.default.weight"] / norm)[:, None] * w
        weights[f"{name}.weight"] = w
    batch = minibatch[0]
    packed = batch.packed
    hidden = []
    trunk = {name.removeprefix("model."): w for name, w in weights.items()}
    for a, b in zip(packed.cu_seqlens[:-1].tolist(), packed.cu_seqlens[1:].tolist(), strict=True):
        inputs = {"input_ids": packed.input_ids[None, a:b], "use_cache": False}
        out = torch.func.functional_call(plain.model, trunk, kwargs=inputs)
        hidden.append(out.last_hidden_state[0])
    algo = AlgoConfig(entropy_coef=0.01, old_logprobs="sampler")
    head = plain.get_output_embeddings().weight.detach()
    total = Surrogate(algo)(torch.cat(hidden)[packed.token_idx], head, batch, None).loss
    assert abs(float(total.detach()) - loss) < 1e-5
    total.backward()
    for name, own in leaves.items():
        for key, leaf in own.items():
            torch.testing.assert_close(policy.masters[f"{name}.{key}"].grad, leaf.grad, rtol=2e-3, atol=2e-5)


def num_products(profiler, vocabulary: int) -> int:
    """Matrix products of which the vocabulary is one of the three sizes."""
    products = ("aten::mm", "aten::addmm", "aten::addmm_")
    shapes = [event.input_shapes for event in profiler.events() if event.name in products]
    return sum(any(vocabulary in shape for shape in each) for each in shapes)


@pytest.mark.parametrize("trained", [True, False])
def test_a_frozen_head_takes_two_products_instead_of_three(trained):
    _, _, (minibatch,), _ = make_minibatches()
    model = tiny_model(vocab_size=131)  # no other size of the model
    if not trained:
        add_adapters(model, LORA, torch.float32, 0)
    policy = Policy(model, None, torch.float32)
    with torch.profiler.profile(record_shapes=True) as profiler:
        add_gradient(policy, minibatch[0])
    assert num_products(profiler, 131) == (3 if trained else 2)


@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["qwen3", "phi3", "llama"])
def test_merged_weights_and_layers_apart_are_one_model(config, dtype, kind):
    if kind == "phi3" and config.lora_targets != "all-linear":
        config = replace(config, lora_targets="qkv_proj,down_proj")
    _, _, (minibatch,), _ = make_minibatches()
    policy = make_policy(config, dtype, kind=kind)
    disturb(policy)
    plain = tiny_model(kind)
    merged = dict(merged_weights(policy.model))
    assert merged.keys() == dict(plain.named_parameters()).keys()
    plain.load_state_dict(merged, strict=False)
    packed = minibatch[0].packed
    expected = policy.logprobs(packed, 1.0)
    found = Policy(plain, None, dtype, frozen=True).logprobs(packed, 1.0)
    tolerance = 1e-4 if dtype is torch.float32 else 0.3
    assert float((found - expected).abs().max()) < tolerance
    again = Policy(merged_copy(policy.model), None, dtype, frozen=True)
    assert torch.equal(again.logprobs(packed, 1.0), found)
    head = policy.model.get_output_embeddings().weight
    assert again.model.get_output_embeddings().weight.data_ptr() == head.data_ptr()  # shared, no copy


def test_init_follows_the_seed():
    one, same, other = (make_policy(seed=seed) for seed in (3, 3, 4))
    for name, master in one.masters.items():
        assert torch.equal(master, same.masters[name])
        assert ".lora_B." in name or not torch.equal(master, other.masters[name])


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "q_proj,nope", ""])
@pytest.mark.parametrize("tied", [True, False])
def test_targets_that_get_no_adapter_are_refused(target, tied):
    model = tiny_model("qwen3", tie_word_embeddings=tied)
    with pytest.raises(ValueError, match=r"model\.lora_targets has .*q_proj"):
        add_adapters(model, replace(LORA, lora_targets=target), torch.float32, 0)


def test_a_quantised_base_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ValueError, match=r"model\.base_format = 'nf4' needs bitsandbytes, which is not installed"
    ):
        add_adapters(tiny_model(), replace(LORA, base_format="nf4"), torch.float32, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("config", KINDS[:2])
def test_the_local_sampler_runs_the_adapter_apart_and_merged(config, dtype):
    policy = make_policy(config, dtype)
    apart = make_sampler(policy)
    updates_arrive(policy, apart)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_probe_finds_an_adapter_that_did_not_arrive(dtype):
    policy = make_policy(dtype=dtype)
    sampler = TorchSampler(merged_copy(policy.model), max_sequence_tokens=128, shares_weights=False)
    disturb(policy, 0.2)
    base = dict(Policy(tiny_model(), None, dtype, frozen=True).named_weights())
    sampler.load_weights(iter(base.items()), 1)
    with pytest.raises(RuntimeError, match="stale"):
        check_transfer(sampler, policy, PROMPT, 1.0)
    sampler.load_weights(policy.weights_for(sampler), 2)
    check_transfer(sampler, policy, PROMPT, 1.0)
