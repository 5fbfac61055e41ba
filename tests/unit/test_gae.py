"""Estimator gae: returns against loops written from the equations, and a critic that learns values."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lamer_fast.algo.gae import gae_credit, lambda_returns
from lamer_fast.algo.packing import pack
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig
from lamer_fast.learn.critic import add_targets, make_critic, turn_values, value_loss
from lamer_fast.learn.policy import Policy
from lamer_fast.learn.update import LearnStats, update
from lamer_fast.rollout.trial_batch import Phase
from lamer_fast.run.state import make_algorithm
from lamer_kernels import cross_episode_returns, register_attention
from tests.hand_made import make_trials
from tests.tiny import tiny_model

GAE = AlgoConfig(estimator="gae", gamma_step=0.9, gamma_traj=0.6, lambda_step=0.8, lambda_traj=0.7)


def plain_returns(trials, values, algo):
    """Backwards through each trial: R of a turn from the value and the return of the turn after it."""
    found = np.zeros(trials.num_turns)
    for m in range(trials.num_trials):
        ahead = (0.0, 0.0)  # value and return of the next PLAY turn
        future, episode = 0.0, None
        for t in reversed(range(trials.cu_trials[m], trials.cu_trials[m + 1])):
            value, after = ahead
            if trials.phase[t] == Phase.REFLECT:
                found[t] = after
                continue
            if trials.episode[t] != episode:  # the last turn of its episode
                blend = (1 - algo.lambda_traj) * value + algo.lambda_traj * after
                future, episode = algo.gamma_traj * blend, trials.episode[t]
                found[t] = trials.rewards[t] + future
            else:
                blend = (1 - algo.lambda_step) * value + algo.lambda_step * after
                found[t] = trials.rewards[t] + algo.gamma_step * blend
                if algo.return_form == "paper":
                    found[t] += (1 - algo.gamma_step) * future
            ahead = (values[t], found[t])
    return found


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_returns_match_a_plain_loop(seed, form):
    trials, algo = make_trials(seed, groups=3), replace(GAE, return_form=form)
    values = np.random.default_rng(seed).normal(size=trials.num_turns).astype(np.float32)
    found = lambda_returns(trials, values, algo, algo.lambda_step, algo.lambda_traj)
    np.testing.assert_allclose(found, plain_returns(trials, values, algo), atol=1e-5)
    ordinary = replace(algo, episode_credit="own")
    expected = plain_returns(trials, values, replace(ordinary, gamma_traj=0.0))
    found = lambda_returns(trials, values, ordinary, algo.lambda_step, algo.lambda_traj)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_without_values_it_is_the_cross_episode_return(form):
    """And values that are that return already leave no advantage, whatever lambda is."""
    trials, algo = make_trials(4, groups=3), replace(GAE, return_form=form)
    exact = cross_episode_returns(
        trials.rewards, trials.phase, trials.episode, trials.cu_trials,
        gamma_step=0.9, gamma_traj=0.6, return_form=form,
    )  # fmt: skip
    nothing = np.zeros_like(exact)
    np.testing.assert_allclose(lambda_returns(trials, nothing, algo, 1.0, 1.0), exact, atol=1e-5)
    credit = gae_credit(trials, exact, replace(algo, scale="none", invalid_penalty=0.0))
    np.testing.assert_allclose(credit.advantages, 0, atol=1e-5)
    assert credit.explained == pytest.approx(1.0)


def test_advantages_are_whitened_and_a_bad_reply_costs():
    trials = make_trials(5, groups=3)
    values = np.zeros(trials.num_turns, np.float32)
    plain, whitened = (gae_credit(trials, values, replace(GAE, scale=s)).advantages for s in ("none", None))
    assert abs(whitened.mean()) < 1e-6 and whitened.std() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(whitened, (plain - plain.mean()) / plain.std(), atol=1e-5)
    free = gae_credit(trials, values, replace(GAE, scale="none", invalid_penalty=0.0)).advantages
    np.testing.assert_allclose(free - plain, np.where(trials.valid, 0, 0.5), atol=1e-6)


def make_config(algo: AlgoConfig = GAE, **learn) -> Config:
    learn = {"minibatches": 1, "max_microbatch_tokens": 300, "lr": 1e-3} | learn
    rollout = RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10)
    return Config(rollout=rollout, algo=algo, learn=LearnConfig(**learn))


def make_policy(**model) -> Policy:
    model = tiny_model(**model)
    model.set_attn_implementation(register_attention())
    return Policy(model, None, torch.float32)


def learn(config: Config, rounds: int, policy: Policy | None = None):
    """So many rounds of credit and update on the same trials: explained variance before each."""
    policy = policy or make_policy()
    algorithm = make_algorithm(config, policy, rounds, make_critic(config.algo, policy))
    trials, explained = make_trials(3), []
    for _ in range(rounds):
        minibatches = pack(trials, np.zeros(trials.num_turns, np.float32), config)
        values = turn_values(algorithm.critic, minibatches, trials.num_turns)
        credit = algorithm.credit(trials, values=values)
        minibatches = pack(trials, credit.advantages, config)
        add_targets(minibatches, values, credit.returns)
        for minibatch in minibatches:
            assert update(algorithm, minibatch, LearnStats()) == "applied"
        explained.append(credit.explained)
    return explained


@pytest.mark.parametrize(("critic", "least"), [("trunk", 0.5), ("head", 0.1)])
def test_a_critic_learns_what_turns_are_worth(critic, least):
    config = make_config(replace(GAE, critic=critic), critic_lr=1e-2, lr=0.0)
    explained = learn(config, 20)
    assert explained[0] == 0 and explained[-1] > least, explained


@pytest.mark.parametrize("kind", ["qwen3", "llama"])  # tied and untied heads
def test_a_trunk_of_its_own_leaves_the_policy_alone(kind):
    """It begins as the policy's, tensor by tensor, and shares none."""
    policy = make_policy(kind=kind)
    critic = make_critic(GAE, policy)
    ours, theirs = dict(policy.model.named_parameters()), dict(critic.trunk.model.named_parameters())
    assert critic.weight.shape == (1, 32) and theirs.pop("lm_head.weight") is critic.weight
    assert ours.keys() - {"lm_head.weight"} == theirs.keys()
    assert all(p is not ours[name] and torch.equal(p, ours[name]) for name, p in theirs.items())
    before = {name: p.detach().clone() for name, p in policy.masters.items()}
    learn(make_config(lr=0.0, critic_lr=1e-2), 2, policy)
    assert all(torch.equal(before[name], p) for name, p in policy.masters.items())


def test_values_are_read_before_the_turn():
    """Other sampled tokens, the same value of the state before them; another prompt, another value."""
    config, policy = make_config(), make_policy()
    critic = make_critic(GAE, policy)
    with torch.no_grad():
        critic.weight.normal_(generator=torch.Generator().manual_seed(0))
    trials = make_trials(3)
    nothing = np.zeros(trials.num_turns, np.float32)

    def values_of(tokens):
        return turn_values(critic, pack(replace(trials, tokens=tokens), nothing, config), trials.num_turns)

    before, last = values_of(trials.tokens), trials.cu_trials[1] - 1
    other = trials.tokens.copy()
    other[trials.token_start[last]] += 1
    np.testing.assert_allclose(values_of(other), before, atol=1e-6)
    other[trials.token_start[last] - 1] += 1
    changed = ~np.isclose(values_of(other), before, atol=1e-4)
    assert changed[last] and changed.sum() == 1


def test_a_clipped_value_is_pulled_no_further():
    config = make_config()
    (batch,) = pack(make_trials(1), np.zeros(make_trials(1).num_turns, np.float32), config)[0][:1]
    count = len(batch.turns)
    batch = replace(batch, old_values=torch.zeros(count), returns=torch.full((count,), 2.0), num_turns=count)
    values = torch.linspace(-1.0, 1.0, count).requires_grad_()
    value_loss(values, batch, 0.5).loss.backward()
    inside = values.detach() <= 0.5
    assert torch.equal(values.grad != 0, inside) and 0 < inside.sum() < count
    expected = 0.5 * ((values.detach().clamp(max=0.5) - 2) ** 2).mean()
    assert float(value_loss(values.detach(), batch, 0.5).loss) == pytest.approx(float(expected))


def test_with_adapters_the_base_is_shared():
    pytest.importorskip("peft", reason="peft is not installed")
    from lamer_fast.config import ModelConfig
    from lamer_fast.model.adapters import add_adapters

    model = tiny_model()
    model.set_attn_implementation(register_attention())
    add_adapters(model, ModelConfig(lora_rank=2), torch.float32, 0)
    policy = Policy(model, None, torch.float32)
    critic = make_critic(GAE, policy)
    theirs = dict(critic.trunk.model.named_parameters())
    for name, parameter in policy.model.named_parameters():
        if name != "lm_head.weight":
            assert (theirs[name] is parameter) == (name not in policy.masters)
    assert critic.masters.keys() == {*policy.masters, "lm_head.weight"}
    explained = learn(make_config(critic_lr=1e-2, lr=0.0), 10, policy)
    assert explained[-1] > 0.1, explained
