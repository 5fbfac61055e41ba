"""What does not fit is told before it is built, with the setting and the bytes, by whatever command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lamer_fast import cli
from lamer_fast.config import resolve as recipe
from lamer_fast.cost import estimate as plan
from lamer_fast.cost import memory
from lamer_fast.run.state import build_player, build_state
from lamer_fast.samplers.local.sampler import TorchSampler, num_slots
from tests.tiny import tiny_model, tiny_tokenizer

HUGE = {
    "rollout.groups": 10**9,
    "rollout.trials_per_group": 10**12,
    "rollout.max_sequence_tokens": 10**8,
    "rollout.cache_tokens": 10**13,
    "rollout.max_turns": 32_767,
    "rollout.episodes": 32_767,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model that says it has room for any sequence."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 10**9}))
    return str(folder)


def huge(model, key):
    values = {"model.path": model, "learn.max_microbatch_tokens": 10**8, "train.num_threads": 0}
    if key in ("rollout.max_turns", "rollout.episodes"):
        values |= {"rollout.groups": 10**4, "rollout.cache_tokens": 65_536}
    return recipe.apply(recipe.load("minesweeper-tiny"), values | {key: HUGE[key]})


@pytest.mark.parametrize("key", HUGE)
def test_more_than_there_is_is_refused_before_it_is_built(key, model):
    config = huge(model, key)
    for attempt in (build_state, build_player, lambda c: plan.estimate(c).memory.check(c)):
        with pytest.raises(ValueError, match=r"the run needs about [\d,.]+ GiB, .* most of it: ") as error:
            attempt(config)
        assert f"{key} = {HUGE[key]}" in str(error.value)
        assert re.search(r"most of it: .*, [\d,.]+ GiB, by ", str(error.value))


@pytest.mark.parametrize("command", [["train"], ["train", "--dry-run"], ["eval"], ["play"]])
def test_every_command_says_the_same(command, model, tmp_path, capsys):
    argv = [*command, "minesweeper-tiny", "--model.path", model]
    argv += ["--rollout.max-sequence-tokens", "100_000_000"]
    if command[0] == "train":
        argv += ["--learn.max-microbatch-tokens", "100_000_000", "--runs", str(tmp_path)]
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "most of it: key-value cache of" in line and "rollout.max_sequence_tokens = 100000000" in line
    assert not list(tmp_path.iterdir())


def test_what_fits_is_built():
    config = recipe.resolve("minesweeper-tiny")
    plan.estimate(config).memory.check(config)
    build_player(config)


def test_an_evaluation_takes_the_weights_alone(model):
    config = recipe.resolve("minesweeper-tiny", ["--model.path", model])
    player, state = build_player(config), build_state(config)
    assert state.policy.masters
    assert not any(p.requires_grad for p in player.sampler._decoder.model.parameters())
    names = {part.name for part in plan.estimate(config).memory.parts}
    assert {"float32 gradients", "optimizer state"} <= names


@pytest.mark.parametrize(("trials", "cache_tokens"), [(1, 0), (9, 0), (100, 0), (100, 640), (3, 6400)])
def test_slots_are_those_that_a_sampler_makes(trials, cache_tokens):
    sampler = TorchSampler(tiny_model(), max_sequence_tokens=64, cache_tokens=cache_tokens)
    for trial in range(trials):
        sampler._slot_for(trial)
    most = num_slots(trials, cache_tokens, 64)
    assert sampler._cache.num_slots == (min(most, 8) if trials == 3 else most)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    whole = memory.host_memory()
    (tmp_path / "limit").write_text("1048576\n")
    (tmp_path / "none").write_text("max\n")
    for files, expected in ((["none"], whole), (["absent"], whole), (["none", "limit"], 1 << 20)):
        monkeypatch.setattr(memory, "CGROUP_LIMITS", [tmp_path / name for name in files])
        assert memory.host_memory() >= expected
    assert memory.device_memory(torch.device("cpu")) == 1 << 20


def test_adapters_are_counted_as_they_are_made():
    pytest.importorskip("peft", reason="peft is not installed")
    for targets in ("all-linear", "q_proj,down_proj"):
        changes = ["--model.lora-rank=4", "--model.dora=true", f"--model.lora-targets={targets}"]
        config = recipe.resolve("minesweeper-tiny", changes)
        state = build_state(config)
        assert memory.num_trained(config, plan.read_model(config)) == state.policy.masters.num_elements


@pytest.mark.parametrize("changes", [["--algo.critic=trunk"], ["--algo.critic=head"],
                                     ["--algo.critic=trunk", "--model.lora-rank=4"]])  # fmt: skip
def test_a_critic_is_counted_as_it_is_made(changes):
    if "--model.lora-rank=4" in changes:
        pytest.importorskip("peft", reason="peft is not installed")
    config = recipe.resolve("minesweeper-tiny", ["--algo.estimator=gae", *changes])
    critic, found = build_state(config).algorithm.critic, plan.estimate(config)
    counted = memory.num_of_critic(config, plan.read_model(config))
    assert counted == critic.masters.num_elements
    without = plan.estimate(recipe.resolve("minesweeper-tiny", changes[1:]))
    assert found.num_trained - without.num_trained == counted
    of_critic = [part.bytes for part in found.memory.parts if part.name.startswith("critic's")]
    assert found.memory.total() - without.memory.total() == pytest.approx(sum(of_critic))
    weights = 4 * counted  # float32 parameters are their own masters
    assert of_critic == [weights, 4 * counted, 8 * counted]


def test_processes_divide_what_they_must(tmp_path, monkeypatch):
    model, wide = str(tmp_path), {"num_hidden_layers": 12, "hidden_size": 64, "intermediate_size": 512}
    tiny_model(**wide).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)

    def plan_of(*overrides):
        flags = ["--model.path", model, "--model.dtype", "bfloat16", "--train.device", "cpu", *overrides]
        return plan.estimate(recipe.resolve("minesweeper-tiny", flags)).memory

    def bytes_of(found, *more):
        names = ("float32 masters", "optimizer state", *more)
        return {p.name: p.bytes for p in found.parts if p.name in names}

    four = ("--train.processes", "4")
    alone, divided = plan_of(), plan_of(*four, "--learn.shard", "optimizer")
    assert bytes_of(divided) == {name: size / 4 for name, size in bytes_of(alone).items()}
    whole = plan_of(*four)
    assert alone.shard == whole.shard == "none" and bytes_of(whole) == bytes_of(alone)

    full = plan_of(*four, "--learn.shard", "full")
    each = plan_of(*four, "--learn.shard", "full", "--learn.reduce-every", "microbatch")
    assert bytes_of(full) == bytes_of(each) == bytes_of(divided)
    gradients = "float32 gradients"
    assert bytes_of(full, gradients) == bytes_of(divided, gradients)
    assert bytes_of(each, gradients)[gradients] < bytes_of(full, gradients)[gradients]
    (passing,) = [p.bytes for p in full.parts if p.name.startswith("weights of two layers")]
    (weights,) = [p.bytes for p in whole.parts if p.name.startswith("weights")]
    assert 2 / 12 < passing / weights < 3 / 12

    lora = ("--model.lora-rank", "16")
    state, adapted = (plan_of(*four, *lora, "--learn.shard", kind) for kind in ("optimizer", "full"))
    assert bytes_of(adapted)["optimizer state"] == bytes_of(state)["optimizer state"]
    (rows,) = [p.bytes for p in adapted.parts if p.name.startswith("rows of the frozen weights")]
    assert rows == weights / 4
    in_rows = bytes_of(adapted)["float32 masters"]
    assert bytes_of(state)["float32 masters"] == 5 * in_rows, "whole beside its rows"

    def with_memory(size, *overrides):
        monkeypatch.setattr(memory, "host_memory", lambda: int(4 * size))
        return plan_of(*four, *overrides)

    between = (whole.total() + divided.total()) / 2
    assert with_memory(between).shard == "optimizer" and with_memory(between).fits
    assert not with_memory(between, "--learn.shard", "none").fits
    between, microbatch = (divided.total() + each.total()) / 2, ("--learn.reduce-every", "microbatch")
    assert with_memory(between, *microbatch).shard == "full" and with_memory(between, *microbatch).fits
    assert not with_memory(between, "--learn.shard", "optimizer").fits


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_plan_of_an_update_is_what_a_process_takes():
    """At the smallest size; `benchmarks/bench_memory.py` compares the others."""
    script = Path(__file__).parents[2] / "benchmarks" / "bench_memory.py"
    found = json.loads(
        subprocess.run(
            [sys.executable, script, "--measure", "0.85M", "full"],
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}, capture_output=True, text=True, check=True,
        ).stdout.splitlines()[-1]
    )  # fmt: skip
    assert found["plan"] == pytest.approx(found["measured"], rel=0.15)
