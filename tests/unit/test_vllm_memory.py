"""What vLLM is given beside the trainer, what the plan says about it, and what does not fit."""

from dataclasses import replace

import pytest
import torch
from transformers import Qwen3Config

from lamer_fast import plan
from lamer_fast.config import RolloutConfig
from lamer_fast.recipe import resolve
from lamer_fast.rollout.samplers.vllm import engine_options
from lamer_fast.rollout.samplers.vllm_memory import GIB, MARGIN, EngineMemory, engine_memory

QWEN3_1_7B = Qwen3Config(
    hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
    num_key_value_heads=8, head_dim=128, vocab_size=151_936,
)  # fmt: skip
NUM_PARAMETERS = 1_720_574_976
ROLLOUT = RolloutConfig(sampler="vllm", groups=16, trials_per_group=8, max_sequence_tokens=4096)


def test_weights_and_cache_are_those_of_the_shape():
    memory = engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, replace(ROLLOUT, cache_tokens=100_000))
    assert memory.weights == 2 * NUM_PARAMETERS
    assert memory.cache == 100_000 * 28 * 2 * 8 * 128 * 2
    assert memory.workspace > MARGIN + ROLLOUT.max_in_flight * 151_936 * 4
    whole = engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, ROLLOUT)  # room for every trial
    assert whole.cache_tokens == 16 * 8 * 4096
    with pytest.raises(ValueError, match="4095 tokens does not hold one trial of up to 4096"):
        engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, replace(ROLLOUT, cache_tokens=4095))


def test_the_share_is_what_the_engine_takes_and_must_be_free():
    memory = EngineMemory(weights=4 * GIB, cache_tokens=1000, cache=10 * GIB, workspace=2 * GIB)
    assert memory.share(free=40 * GIB, total=80 * GIB) == 0.2  # vLLM's own 0.9 would want 72 free
    assert memory.share(free=16 * GIB, total=80 * GIB) == 0.2
    with pytest.raises(ValueError, match=r"needs 16.0 GiB .* 15.9 of 80.0 GiB are free"):
        memory.share(free=int(15.9 * GIB), total=80 * GIB)


def test_a_gpu_gets_its_share_and_a_cpu_none():
    memory = engine_memory(QWEN3_1_7B, NUM_PARAMETERS, torch.bfloat16, ROLLOUT)
    sleepy = replace(ROLLOUT, sleep_during_updates=True)
    gpu, cpu = (engine_options(sleepy, torch.bfloat16, memory, share) for share in (0.25, None))
    assert gpu["gpu_memory_utilization"] == 0.25 and "gpu_memory_utilization" not in cpu
    assert gpu["kv_cache_memory_bytes"] == cpu["kv_cache_memory_bytes"] == memory.cache
    assert (gpu["enable_sleep_mode"], cpu["enable_sleep_mode"]) == (True, False)
    assert (gpu["enforce_eager"], cpu["enforce_eager"]) == (False, True)


def test_the_plan_counts_vllms_own_copy():
    config = resolve("minesweeper-tiny")
    config = replace(config, rollout=replace(config.rollout, sampler="vllm", cache_tokens=4096))
    made = plan.estimate(config)
    rows = {name: size for name, size in made.memory.items() if name.startswith(plan.VLLM)}
    assert len(rows) == 3 and sum(rows.values()) > MARGIN
    assert made.total == sum(made.memory.values())
    assert plan.VLLM in str(made)


def test_a_sleeping_engine_is_not_there_during_an_update():
    made = plan.estimate(resolve("minesweeper-tiny"))
    rows = {"weights": 5.0, "activations": 3.0, "head": 4.0, "vLLM": 6.0}
    awake = replace(made, memory=rows, updating=frozenset({"activations", "head"}), sampling=frozenset())
    assert awake.total == 18
    assert replace(awake, sampling=frozenset({"vLLM"})).total == 12  # 5 + max(7, 6)
    assert replace(awake, sampling=frozenset({"vLLM"}), memory=rows | {"vLLM": 9.0}).total == 14


def test_on_a_gpu_the_plan_says_both_numbers(monkeypatch):
    monkeypatch.setattr(plan, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(plan, "_available", lambda device: 80 * GIB)
    monkeypatch.setattr(plan, "_measure", lambda dtype, device: (1e12, 1e12))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    config = resolve("minesweeper-tiny")
    config = replace(config, rollout=replace(config.rollout, sampler="vllm", sleep_during_updates=True))
    made = plan.estimate(config)
    engine = sum(size for name, size in made.memory.items() if name.startswith(plan.VLLM))
    assert f"gpu_memory_utilization = {engine / (80 * GIB):.3f}: {engine / GIB:.1f} of 80.0 GiB" in str(made)
    assert made.total < sum(made.memory.values())
