"""What vLLM is given beside the trainer, what the plan says about it, and what does not fit."""

from dataclasses import replace

import pytest
import torch
from transformers import Qwen3Config

from lamer_fast.config import RolloutConfig
from lamer_fast.config.resolve import resolve
from lamer_fast.cost import estimate as plan
from lamer_fast.cost import memory
from lamer_fast.cost.limits import Rates
from lamer_fast.cost.memory import Memory, Part
from lamer_fast.device import GIB
from lamer_fast.samplers.vllm.memory import MARGIN, EngineMemory, engine_memory
from lamer_fast.samplers.vllm.sampler import engine_options, of_a_rank

QWEN3_1_7B = Qwen3Config(
    hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
    num_key_value_heads=8, head_dim=128, vocab_size=151_936,
)  # fmt: skip
NUM_PARAMETERS = 1_720_574_976
ROLLOUT = RolloutConfig(sampler="vllm", groups=16, trials_per_group=8, max_sequence_tokens=4096)


def test_weights_and_cache_are_those_of_the_shape():
    engine = engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, replace(ROLLOUT, cache_tokens=100_000))
    assert engine.weights == 2 * NUM_PARAMETERS
    assert engine.cache == 100_000 * 28 * 2 * 8 * 128 * 2
    assert engine.workspace > MARGIN + ROLLOUT.max_in_flight * 151_936 * 4
    whole = engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, ROLLOUT)  # room for every trial
    assert whole.cache_tokens == 16 * 8 * 4096
    with pytest.raises(ValueError, match="4095 tokens does not hold one trial of up to 4096"):
        engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, replace(ROLLOUT, cache_tokens=4095))


def test_the_share_is_what_the_engine_takes_and_must_be_free():
    engine = EngineMemory(weights=4 * GIB, cache_tokens=1000, cache=10 * GIB, workspace=2 * GIB)
    assert engine.share(free=40 * GIB, total=80 * GIB) == 0.2  # vLLM's own 0.9 would want 72 free
    assert engine.share(free=16 * GIB, total=80 * GIB) == 0.2
    with pytest.raises(ValueError, match=r"needs 16.0 GiB .* 15.9 of 80.0 GiB are free"):
        engine.share(free=int(15.9 * GIB), total=80 * GIB)


def test_a_gpu_gets_its_share_and_a_cpu_none():
    engine = engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, ROLLOUT)
    sleepy = replace(ROLLOUT, sleep_during_updates=True)
    gpu, cpu = (engine_options(sleepy, torch.bfloat16, engine, share) for share in (0.25, None))
    assert gpu["gpu_memory_utilization"] == 0.25 and "gpu_memory_utilization" not in cpu
    assert gpu["kv_cache_memory_bytes"] == cpu["kv_cache_memory_bytes"] == engine.cache
    assert (gpu["enable_sleep_mode"], cpu["enable_sleep_mode"]) == (True, False)
    assert (gpu["enforce_eager"], cpu["enforce_eager"]) == (False, True)


def test_a_cache_in_fp8_is_told_to_vllm_and_takes_half():
    small = replace(ROLLOUT, kv_cache_dtype="fp8")
    sizes = [
        engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, rollout) for rollout in (ROLLOUT, small)
    ]
    assert sizes[0].cache == 2 * sizes[1].cache and sizes[0].cache_tokens == sizes[1].cache_tokens
    given = [engine_options(r, torch.bfloat16, m, 0.5) for r, m in zip((ROLLOUT, small), sizes, strict=True)]
    assert [options["kv_cache_dtype"] for options in given] == ["auto", "fp8"]
    assert given[1]["kv_cache_memory_bytes"] == sizes[1].cache


def vllm_parts(made):
    return [part for part in made.memory.parts if part.name.startswith("vLLM's own")]


def test_the_plan_counts_vllms_own_copy():
    config = resolve("minesweeper-tiny")
    config = replace(config, rollout=replace(config.rollout, sampler="vllm", cache_tokens=4096))
    made = plan.estimate(config)
    assert len(vllm_parts(made)) == 3 and sum(part.bytes for part in vllm_parts(made)) > MARGIN
    assert made.memory.total() == sum(part.bytes for part in made.memory.parts)
    assert "vLLM's own" in str(made)


def test_a_sleeping_engine_is_not_there_during_an_update():
    parts = (Part("weights", 5, ()), Part("activations", 3, (), "updating"), Part("head", 4, (), "updating"))
    awake, asleep, larger = (Part("vLLM", 6, ()), *(Part("vLLM", n, (), "sampling") for n in (6, 9)))
    host = Part("boards", 100, (), on_host=True)

    def total(*more, device="cuda", on_host=False):
        return Memory((*parts, *more, host), device, 10, 10).total(on_host=on_host)

    assert (total(awake), total(asleep), total(larger)) == (18, 12, 14)  # 12 = 5 + max(7, 6)
    assert total(awake, on_host=True) == 100 and total(awake, device="cpu") == 118


def test_on_a_gpu_the_plan_says_both_numbers(monkeypatch):
    monkeypatch.setattr(plan, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(memory, "device_memory", lambda device: 80 * GIB)
    monkeypatch.setattr(plan, "measure", lambda dtype, device: Rates(1e12, 1e12))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    config = resolve("minesweeper-tiny")
    config = replace(config, rollout=replace(config.rollout, sampler="vllm", sleep_during_updates=True))
    made = plan.estimate(config)
    engine = sum(part.bytes for part in vllm_parts(made))
    assert f"gpu_memory_utilization = {engine / (80 * GIB):.3f}: {engine / GIB:.1f} of 80.0 GiB" in str(made)
    on_device = [part for part in made.memory.parts if not part.on_host]
    assert made.memory.total() < sum(part.bytes for part in on_device)


def test_each_rank_has_an_engine_for_its_own_trials():
    flags = ["--rollout.sampler=vllm", "--train.device=cpu", "--learn.shard=none"]

    def cache_of(processes):
        config = resolve("minesweeper-tiny", [*flags, f"--train.processes={processes}"])
        (part,) = [p for p in plan.estimate(config).memory.parts if p.name.startswith("vLLM's own key-value")]
        return part.bytes

    assert cache_of(4) == cache_of(1) / 4
    assert of_a_rank(1) == {}, "alone it makes a group of its own"
    assert of_a_rank(4) == {"distributed_executor_backend": "external_launcher"}
