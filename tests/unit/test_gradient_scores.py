"""The lab's gradients of a language model: the trainer's, turn by turn, on a sketch."""

from dataclasses import replace

import numpy as np
import torch

from lamer_fast.algo.losses import Surrogate
from lamer_fast.algo.packing import pack
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig
from lamer_fast.learn.policy import Policy
from lamer_fast.study.gradient.scores import Sketch
from lamer_kernels import register_attention
from tests.hand_made import make_trials
from tests.tiny import tiny_model


def policy_and_trials():
    model = tiny_model()
    model.set_attn_implementation(register_attention())
    return Policy(model, None, torch.float32), make_trials(0, groups=2)


def test_weighed_by_advantages_they_are_the_gradient_of_the_trainers_loss():
    policy, trials = policy_and_trials()
    advantages = np.random.default_rng(0).normal(size=trials.num_turns).astype(np.float32)
    rollout = RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10)
    config = Config(
        rollout=replace(rollout, temperature=0.8),
        algo=AlgoConfig(entropy_coef=0.0, aggregation="token_mean"),
        learn=LearnConfig(minibatches=1, max_microbatch_tokens=10_000),
    )  # fmt: skip
    ((batch,),) = pack(trials, advantages, config)
    policy(batch, Surrogate(config.algo), head_gradient=policy.head_sum()).loss.backward()
    sketch = Sketch(policy, size=500)
    tokens = trials.num_sampled
    trained = sketch.sketched([policy.masters.sum_of(p) for p in sketch.parameters]).numpy()
    found = advantages @ sketch.scores(trials, 0.8) / tokens
    np.testing.assert_allclose(-trained, found, atol=1e-5 * abs(found).max())


def test_products_of_sketches_are_those_of_gradients_on_average():
    sketch = Sketch(policy_and_trials()[0])
    rng = np.random.default_rng(1)
    plain = [torch.from_numpy(rng.normal(size=sketch.count).astype(np.float32)) for _ in range(2)]
    plain[1] = 0.6 * plain[0] + 0.8 * plain[1]
    a, b = (sketch.sketched([x]) for x in plain)
    cosine = float(a @ b / a.norm() / b.norm())
    assert abs(cosine - 0.6) < 4 / sketch.size**0.5
    torch.testing.assert_close(sketch.sketched([3 * plain[0]]), 3 * a)
