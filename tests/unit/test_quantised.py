"""A base in few bits: one set of values for trainer, sampler, files and audit, and gradients through it."""

from dataclasses import replace

import pytest
import torch

from lamer_fast.audit.of_policy import audit_policy
from lamer_fast.config import LearnConfig, ModelConfig
from lamer_fast.cost.limits import shape_of
from lamer_fast.learn.policy import BaseOf, Policy, load_policy
from lamer_fast.learn.update import LearnStats
from lamer_fast.model.adapters import (
    adapted,
    adapter_settings,
    adapter_weights,
    add_adapters,
    base_weights,
    merged_weights,
    save_adapter,
)
from lamer_fast.model.quantised import Quantised, num_weights, packed_bytes, quantised_layers
from lamer_fast.samplers.local.sampler import TorchSampler
from tests.tiny import tiny_model, tiny_tokenizer
from tests.unit.test_adapters import disturb, updates_arrive
from tests.unit.test_audit import replays
from tests.unit.test_update import add_gradient, make_minibatches, make_state, make_update

pytest.importorskip("peft", reason="peft is not installed")
pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
KINDS = ["int8", "nf4"]
DTYPES = [torch.float32, torch.bfloat16]
OFF = {"int8": 0.012, "nf4": 0.15}  # of a normal weight, relative: a step of 127 and the quantiles of 16


def make_policy(kind, dtype=torch.float32, dora=False, family="qwen3", targets="all-linear") -> Policy:
    config = ModelConfig(lora_rank=4, lora_alpha=8.0, base_format=kind, dora=dora, lora_targets=targets)
    model = tiny_model(family)
    add_adapters(model, config, dtype, 0)
    return Policy(model, None, dtype)


def plain_policy(policy: Policy, weights, family="qwen3") -> Policy:
    plain = tiny_model(family)
    plain.load_state_dict(dict(weights), strict=False)
    return Policy(plain, None, policy.dtype, frozen=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(96, 64), (33, 7)])  # also one that fills no block
def test_values_are_near_and_a_cast_of_the_module_leaves_them(kind, dtype, shape):
    linear = torch.nn.Linear(*shape, dtype=dtype)
    with torch.no_grad():
        linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    layer = Quantised(linear, kind, dtype, torch.device("cpu"))
    assert layer.weight.dtype is dtype and layer.weight.shape == linear.weight.shape
    assert (layer.weight - linear.weight).norm() < OFF[kind] * linear.weight.norm()
    before, x = layer.weight, torch.randn(5, shape[0], dtype=dtype)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, before) + linear.bias)
    assert layer.packed.nbytes + layer.scales.nbytes == packed_bytes(kind, *shape)
    wide = layer.double()
    assert torch.equal(wide.weight, before) and wide(x.double()).dtype is torch.float64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dora", [False, True])
def test_the_first_policy_is_its_base_and_training_leaves_that_alone(kind, dtype, dora):
    _, _, (minibatch,), run = make_minibatches()
    policy = make_policy(kind, dtype, dora)
    base = plain_policy(policy, base_weights(policy.model))
    packed = minibatch[0].packed
    tolerance = {"rtol": 0, "atol": 2e-6 if dtype is torch.float32 else 2e-2}
    first = base.logprobs(packed, 1.0)
    torch.testing.assert_close(policy.logprobs(packed, 1.0), first, **tolerance)
    kept = {f"{i}.{n}": b.clone() for i, q in enumerate(quantised_layers(policy.model))
            for n, b in q.named_buffers()}  # fmt: skip
    state = make_state(policy, replace(run, learn=LearnConfig(lr=1e-2, weight_decay=0.0)))
    for _ in range(3):
        make_update(state, minibatch, LearnStats())
    for i, layer in enumerate(quantised_layers(policy.model)):
        assert all(torch.equal(b, kept[f"{i}.{n}"]) for n, b in layer.named_buffers())
    assert (policy.logprobs(packed, 1.0) - first).abs().max() > 5e-2
    torch.testing.assert_close(BaseOf(policy).logprobs(packed, 1.0), first, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["all-linear", "q_proj"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_gradients_are_those_over_a_plain_base_of_the_same_values(kind, targets, recomputed):
    _, _, (minibatch,), _ = make_minibatches()
    policy = make_policy(kind, targets=targets)
    disturb(policy)
    if recomputed:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = tiny_model()
    model.load_state_dict(dict(base_weights(policy.model)), strict=False)
    config = ModelConfig(lora_rank=4, lora_alpha=8.0, lora_targets=targets)
    add_adapters(model, config, torch.float32, 0)
    plain = Policy(model, None, torch.float32)
    plain.masters.load(policy.masters.saved())
    assert add_gradient(policy, minibatch[0]) == pytest.approx(add_gradient(plain, minibatch[0]), abs=1e-6)
    for name, master in policy.masters.items():
        torch.testing.assert_close(master.grad, plain.masters[name].grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sampler_and_trainer_are_one_model(kind, dtype):
    policy = make_policy(kind, dtype)
    apart = TorchSampler(policy.model, max_sequence_tokens=128)
    updates_arrive(policy, apart)
    found = audit_policy(apart, policy, replays(num_ids=90), 0.8)
    assert found.ok, found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["qwen3", "phi3"])
def test_what_is_exported_is_what_was_trained(kind, family, tmp_path):
    """Merged: the values that the bits stand for, with the adapter. Apart: the folder says what base."""
    _, _, (minibatch,), _ = make_minibatches()
    policy, packed = make_policy(kind, family=family), minibatch[0].packed
    disturb(policy)
    expected = policy.logprobs(packed, 1.0)
    merged = plain_policy(policy, merged_weights(policy.model), family)
    torch.testing.assert_close(merged.logprobs(packed, 1.0), expected, rtol=0, atol=1e-4)
    assert dict(merged_weights(policy.model)).keys() == dict(tiny_model(family).named_parameters()).keys()
    plain = tiny_model(family)
    assert num_weights(policy.model) - policy.masters.num_elements == num_weights(plain)
    assert shape_of(policy.model).body - policy.masters.num_elements == shape_of(plain).body

    base, folder = tmp_path / "base", tmp_path / "adapter"
    plain.save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    folder.mkdir()
    config = ModelConfig(path=str(base), lora_rank=4, lora_alpha=8.0)
    settings = adapter_settings(config, policy.model, str(base))
    save_adapter(policy.model, adapter_weights(policy.model), settings, folder)
    again = load_policy(ModelConfig(path=str(folder), dtype="float32"), torch.device("cpu"), frozen=True)
    torch.testing.assert_close(again.hidden(packed), policy.hidden(packed), rtol=0, atol=1e-4)


def test_head_and_embedding_stay_as_they_are():
    policy, plain = make_policy("nf4"), tiny_model()
    weights = dict(base_weights(policy.model))
    for name, weight in plain.named_parameters():
        same = torch.equal(weights[name], weight)
        assert same != (name.removesuffix(".weight") in adapted(policy.model)), name
