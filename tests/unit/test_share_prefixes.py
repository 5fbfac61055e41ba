"""learn.share_prefixes: a minibatch over fewer tokens has the same loss tokens, losses and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lamer_fast.algo.packing import pack
from lamer_fast.config import Config, LearnConfig, RolloutConfig
from lamer_fast.learn.policy import Policy
from lamer_kernels import linear_policy_loss, register_attention
from tests.hand_made import make_trials
from tests.tiny import tiny_model


def alike(seed):
    """Trials whose sequences have long beginnings in common."""
    trials = make_trials(seed, groups=3, trials_per_group=3)
    tokens = np.zeros_like(trials.tokens)
    g = np.random.default_rng(seed)
    for start, end in zip(trials.cu_seqlens[:-1], trials.cu_seqlens[1:], strict=True):
        cut = g.integers(start, end)
        tokens[cut:end] = g.integers(1, 100, end - cut)
    return replace(trials, tokens=tokens)


def packed(trials, share_prefixes):
    learn = LearnConfig(minibatches=2, max_microbatch_tokens=200, share_prefixes=share_prefixes)
    rollout = RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10)
    advantages = np.random.default_rng(0).normal(size=trials.num_turns).astype(np.float32)
    return pack(trials, advantages, Config(rollout=rollout, learn=learn))


def objective(hidden, weight, batch, head_gradient):
    return linear_policy_loss(
        hidden, weight, batch.packed.targets, batch.rollout_logprobs, batch.advantages,
        token_weights=batch.token_weights, temperature=batch.temperature, entropy_coef=0.01,
    )  # fmt: skip


def gradients(policy, minibatch):
    policy.zero_grad()
    loss = sum(policy(batch, objective).loss for batch in minibatch)
    return loss.detach(), torch.autograd.grad(loss, list(policy.model.parameters()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["qwen3", "olmo2"])  # by the decoder, and by the model's own module
def test_same_loss_tokens_losses_and_gradients(seed, kind):
    trials = alike(seed)
    separate, shared = packed(trials, False), packed(trials, True)
    policy = Policy(tiny_model(kind), None, torch.float32)
    policy.model.set_attn_implementation(register_attention())
    for a, b in zip(separate, shared, strict=True):
        counts = [sum(len(batch.packed.input_ids) for batch in m) for m in (a, b)]
        assert counts[1] < counts[0]
        assert all(len(batch.packed.input_ids) <= 200 for batch in b)
        targets = [sorted(torch.cat([batch.packed.targets for batch in m]).tolist()) for m in (a, b)]
        assert targets[0] == targets[1]
        (loss, grads), (other, others) = gradients(policy, a), gradients(policy, b)
        torch.testing.assert_close(other, loss, rtol=1e-5, atol=1e-6)
        for x, y in zip(others, grads, strict=True):
            assert (x - y).norm() <= 1e-5 * y.norm() + 1e-7
