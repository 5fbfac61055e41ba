"""The policy's packed loss and one update of it."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lamer_fast.algo.losses import Surrogate
from lamer_fast.algo.packing import pack
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig
from lamer_fast.learn.optimizer import Optimizer
from lamer_fast.learn.policy import Policy
from lamer_fast.learn.update import LearnStats, Mismatch, mismatch, score, score_reference, update
from lamer_fast.run.state import TrainState, make_algorithm
from lamer_kernels import register_attention
from tests.hand_made import make_trials
from tests.tiny import tiny_model

ALGO = AlgoConfig(entropy_coef=0.01, old_logprobs="sampler")


def make_policy(dtype: torch.dtype = torch.float32, num_ids: int | None = None) -> Policy:
    model = tiny_model()
    model.set_attn_implementation(register_attention())
    return Policy(model, None, dtype, num_ids=num_ids)


def make_state(policy: Policy, config: Config, dump_dir=None) -> TrainState:
    return TrainState(config, make_algorithm(config, policy, 10), None, None, None, dump_dir=dump_dir)


def make_update(state: TrainState, minibatch, stats: LearnStats) -> None:
    state.note(update(state.algorithm, minibatch, stats), minibatch)


def add_gradient(policy: Policy, batch, algo: AlgoConfig = ALGO) -> float:
    loss = policy(batch, Surrogate(algo), head_gradient=policy.head_sum()).loss
    loss.backward()
    return float(loss.detach())


def make_minibatches(algo: AlgoConfig = ALGO, *, budget: int = 300, minibatches: int = 1, seed: int = 0):
    trials = make_trials(seed, groups=3)
    config = Config(
        rollout=RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10),
        algo=algo,
        learn=LearnConfig(minibatches=minibatches, max_microbatch_tokens=budget),
    )
    advantages = np.random.default_rng(seed).normal(size=trials.num_turns).astype(np.float32)
    return trials, advantages, pack(trials, advantages, config), config


def plain_loss(policy: Policy, trials, advantages, algo: AlgoConfig) -> torch.Tensor:
    """The same loss by the textbook: one padded row per sequence, full logits, torch's own attention."""
    policy.model.set_attn_implementation("eager")
    total, num_tokens = torch.zeros(()), int((trials.token_end - trials.token_start).sum())
    for s in range(trials.num_sequences):
        ids = torch.from_numpy(trials.tokens[trials.cu_seqlens[s] : trials.cu_seqlens[s + 1]]).long()
        logprobs = policy.model(input_ids=ids[None]).logits[0, :, : policy.num_ids].float().log_softmax(-1)
        for r in np.flatnonzero(trials.sequence == s):
            at = torch.arange(trials.token_start[r], trials.token_end[r]) - int(trials.cu_seqlens[s])
            new = logprobs[at - 1, ids[at]]
            old = torch.from_numpy(trials.rollout_logprobs[trials.token_start[r] : trials.token_end[r]])
            ratio, A = (new - old).exp(), float(advantages[r])
            loss = -torch.minimum(ratio * A, ratio.clamp(1 - algo.clip_low, 1 + algo.clip_high) * A)
            if A < 0:
                loss = loss.clamp(max=-algo.dual_clip * A)
            entropy = -(logprobs[at - 1].exp() * logprobs[at - 1]).sum(-1)
            total = total + (loss - algo.entropy_coef * entropy).sum() / num_tokens
    policy.model.set_attn_implementation(register_attention())
    return total


@pytest.mark.parametrize("num_ids", [None, 100])  # None: all 128 rows of the head
@pytest.mark.parametrize("budget", [120, 10_000])
def test_packed_loss_and_gradient_equal_the_unpacked_ones(budget, num_ids):
    trials, advantages, (minibatch,), _ = make_minibatches(budget=budget)
    assert (len(minibatch) > 1) == (budget == 120)
    policy = make_policy(num_ids=num_ids)
    packed = 0.0
    for batch in minibatch:
        packed += add_gradient(policy, batch)
    grads = {name: master.grad.clone() for name, master in policy.masters.items()}
    policy.zero_grad()
    plain = plain_loss(policy, trials, advantages, ALGO)
    assert math.isclose(packed, float(plain), abs_tol=1e-6)
    plain.backward()
    for name, master in policy.masters.items():
        torch.testing.assert_close(grads[name], master.grad, rtol=1e-4, atol=2e-6)


def test_bfloat16_gradients_reach_float32_masters():
    _, _, (minibatch,), _ = make_minibatches(budget=120)
    exact, rounded = make_policy(), make_policy(torch.bfloat16)
    for policy in (exact, rounded):
        for batch in minibatch:
            add_gradient(policy, batch)
    for name, master in rounded.masters.items():
        assert master.dtype is master.grad.dtype is torch.float32
        a, b = exact.masters[name].grad, master.grad
        assert torch.linalg.vector_norm(a - b) < 0.1 * torch.linalg.vector_norm(a)  # bf16 keeps 8 bits


@pytest.mark.parametrize("num_ids", [None, 100])
def test_forward_computes_a_loss_and_nothing_else(num_ids):
    _, _, (minibatch,), _ = make_minibatches()
    policy, summing = make_policy(num_ids=num_ids), make_policy(num_ids=num_ids)
    unused = policy(minibatch[0], Surrogate(ALGO))
    assert not policy.masters.gradients()
    (3.0 * policy(minibatch[0], Surrogate(ALGO)).loss).backward()  # scaled; the first pass is never used
    assert torch.equal(unused.loss, policy(minibatch[0], Surrogate(ALGO)).loss)
    add_gradient(summing, minibatch[0])
    for name, master in policy.masters.items():
        expected = 3.0 * summing.masters[name].grad
        torch.testing.assert_close(master.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lr_of_1e6_changes_parameters(dtype):
    _, _, (minibatch,), config = make_minibatches()
    policy = make_policy(dtype)
    before = {name: master.detach().clone() for name, master in policy.masters.items()}
    state = make_state(policy, replace(config, learn=LearnConfig(lr=1e-6, weight_decay=0.0)))
    make_update(state, minibatch, LearnStats())
    for name, master in policy.masters.items():
        moved = (master - before[name]).abs()
        assert 0.5e-6 < float(moved.max()) < 1.5e-6, name  # AdamW's first step is lr in each coordinate
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, policy.masters[name].to(dtype))


def test_first_minibatch_needs_no_score():
    algo = replace(ALGO, old_logprobs="recompute")
    _, _, minibatches, config = make_minibatches(algo, minibatches=2)
    policy = make_policy()
    score(policy, minibatches, algo)
    assert minibatches[0][0].old_logprobs is None and minibatches[1][0].old_logprobs is not None
    first = minibatches[0][0]
    expected = policy.logprobs(first.packed, first.temperature)
    stats = LearnStats()
    make_update(make_state(policy, config), minibatches[0], stats)
    torch.testing.assert_close(minibatches[0][0].old_logprobs, expected, rtol=0, atol=1e-6)
    assert stats.mean("clipped") == 0  # the ratio is 1
    assert mismatch(minibatches, stats, algo).max > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_updates_are_skipped_dumped_and_counted(tmp_path, bad):
    _, _, (minibatch,), config = make_minibatches()
    policy = make_policy()
    state, stats = make_state(policy, config, tmp_path / "skipped"), LearnStats()
    before = {name: master.detach().clone() for name, master in policy.masters.items()}
    good = float(minibatch[0].advantages[0])
    minibatch[0].advantages[0] = bad
    for _ in range(2):
        make_update(state, minibatch, stats)
    assert (stats.skipped, stats.updates, state.skipped_in_row, state.optimizer.num_updates) == (2, 0, 2, 0)
    assert all(torch.equal(master, before[name]) for name, master in policy.masters.items())
    assert all(master.grad is None for master in policy.masters.values())
    dumped = load_file(tmp_path / "skipped" / "000000-0002.safetensors")
    assert torch.equal(dumped["0/targets"], minibatch[0].packed.targets)
    minibatch[0].advantages[0] = good
    make_update(state, minibatch, stats)
    assert (stats.updates, state.skipped_in_row, state.skipped) == (1, 0, 2)


def test_nothing_to_learn_makes_no_update():
    _, _, (minibatch,), config = make_minibatches(replace(ALGO, entropy_coef=0.0))
    state, stats = make_state(make_policy(), config), LearnStats()
    minibatch[0].advantages.zero_()
    for nothing in ([], [minibatch[0]]):
        make_update(state, nothing, stats)
    assert (stats.empty, stats.updates, state.optimizer.num_updates) == (2, 0, 0)


def test_gradients_are_clipped_and_the_schedule_followed():
    policy = make_policy()
    config = LearnConfig(lr=1.0, warmup_updates=2, schedule="cosine", max_grad_norm=0.5)
    optimizer = Optimizer(policy.masters, config, total_updates=6)
    rates = []
    for _ in range(6):
        rates.append(optimizer.lr())
        optimizer.num_updates += 1
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)

    seen = {}
    optimizer.adamw = SimpleNamespace(
        param_groups=[{}], step=lambda: seen.update({n: m.grad.clone() for n, m in policy.masters.items()})
    )
    for master in policy.masters.values():
        master.grad = torch.ones_like(master)
    norm, applied = optimizer.step()
    count = sum(master.numel() for master in policy.masters.values())
    assert applied and norm == pytest.approx(math.sqrt(count), rel=1e-5)
    total = torch.nn.utils.get_total_norm(list(seen.values()))
    assert float(total) == pytest.approx(0.5, rel=1e-4)


def test_mismatch_by_hand():
    trainer, sampler = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -2.0])
    m = Mismatch.of([(trainer, sampler)])
    w = math.exp(0.5)
    assert m.mean == pytest.approx(0.25) and m.max == pytest.approx(0.5)
    assert m.k3 == pytest.approx((w - 1 - 0.5) / 2)
    assert m.ess == pytest.approx((w + 1) ** 2 / (2 * (w * w + 1)))
    assert Mismatch.of([]) == Mismatch()


def test_frozen_reference_has_no_masters_and_fills_kl():
    algo = replace(ALGO, kl_coef=0.1)
    _, _, (minibatch,), _ = make_minibatches(algo)
    policy = make_policy()
    reference = Policy(make_policy().model, None, torch.float32, frozen=True)
    assert not reference.masters and not any(p.requires_grad for p in reference.parameters())
    score_reference(reference, [minibatch])
    assert float(policy(minibatch[0], Surrogate(algo)).kl.abs().max()) < 1e-6  # the same weights
    with torch.no_grad():
        next(iter(policy.masters.values())).mul_(1.1)
    assert float(policy(minibatch[0], Surrogate(algo)).kl.max()) > 1e-4
