"""What a GPU would be handed, without one: shapes and devices of CUDA tensors that hold no data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lamer_fast.algo.losses import Surrogate
from lamer_fast.algo.packing import pack
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig
from lamer_fast.learn.policy import Policy
from lamer_fast.warmstart.expert_batch import ExpertBatch
from lamer_kernels import register_attention
from lamer_kernels.head.logprob import op as logprob
from lamer_kernels.head.policy import linear
from lamer_kernels.head.policy.terms import LossConfig, TokenData
from tests.hand_made import make_trials
from tests.tiny import tiny_model

ON_HOST = {"advantages", "token_weights"}
ALGO = AlgoConfig(entropy_coef=0.0)


def packed(device, algo=ALGO):
    rollout = RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10)
    learn = LearnConfig(minibatches=1, max_microbatch_tokens=4000)
    trials = make_trials(0, groups=4)
    advantages = np.random.default_rng(0).choice([-1.0, 0.0, 2.0], trials.num_turns).astype(np.float32)
    ((batch,),) = pack(trials, advantages, Config(rollout=rollout, learn=learn, algo=algo), device=device)
    return batch


def test_the_host_keeps_what_the_loss_head_reads_there():
    host, device = packed("cpu").tensors(), packed("meta").tensors()
    assert {name for name, x in device.items() if x.device.type == "cpu"} == ON_HOST
    assert all(torch.equal(device[name], host[name]) for name in ON_HOST)
    assert {n: (x.shape, x.dtype) for n, x in device.items()} == {
        n: (x.shape, x.dtype) for n, x in host.items()
    }


def test_the_same_tokens_are_left_out_on_every_device():
    config = LossConfig(
        loss="clip", clip_low=0.2, clip_high=0.2, dual_clip=None, log_ratio_clip=None, kl="k3", kl_coef=0.0,
        kl_clip=None, entropy_coef=0.0,
    )  # fmt: skip
    kept = []
    for device in ("cpu", "meta"):
        b = packed(device)
        tokens = TokenData(b.rollout_logprobs, b.advantages, b.token_weights, None, None)
        kept.append(tokens.kept(config))
    assert torch.equal(*kept)
    assert 0 < int(kept[0].sum()) < len(kept[0])


@pytest.fixture
def model(monkeypatch):
    """On a device without data, where the loss head takes its GPU path. Two devices in one operation raise,
    and so does whatever reads a value: on a GPU it would synchronise."""
    for op in (linear, logprob):
        monkeypatch.setattr(op, "resolve_backend", lambda *args, **options: "triton")
    model = tiny_model("qwen3").train()
    model.set_attn_implementation(register_attention())
    return model.to("meta")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "algo",
    [
        ALGO,
        replace(ALGO, loss="gspo"),
        replace(ALGO, old_logprobs="recompute", importance_cap=2.0, kl_coef=0.1),
        AlgoConfig(entropy_coef=0.01),
    ],
    ids=["clip", "gspo", "kl and importance weights", "entropy"],
)
def test_an_update_stays_on_its_device(algo, dtype, model):
    policy, batch = Policy(model, None, dtype), packed("meta", algo)
    assert policy.decoder is not None
    if algo.old_logprobs == "recompute":
        batch = replace(batch, old_logprobs=policy.logprobs(batch.packed, batch.temperature))
    if algo.kl_coef:
        batch = replace(batch, ref_logprobs=policy.logprobs(batch.packed, batch.temperature))
    out = policy(batch, Surrogate(algo), head_gradient=policy.head_sum())
    out.loss.backward()
    for x in (*out, *(master.grad for master in policy.masters.values())):
        assert x.device.type == "meta"
    assert all(master.grad.dtype is torch.float32 for master in policy.masters.values())


def test_expert_batches_follow_the_policy_to_its_device(model):
    policy, batch = Policy(model, None, torch.bfloat16), packed("cpu").packed
    loss = ExpertBatch(batch, torch.zeros(len(batch.targets), 128)).loss(policy)
    loss.backward()
    assert loss.device.type == "meta"
