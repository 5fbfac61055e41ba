"""Consolidation: a later episode that won, token for token a first attempt, and its loss by the textbook."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.algo.consolidation import as_first_attempts
from lamer_fast.algo.packing import pack, pack_lessons
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig
from lamer_fast.learn.update import LearnStats, update
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.rollout.trial_batch import Phase, TrialBatch
from lamer_kernels import register_attention
from tests.hand_made import make_trials, won_later
from tests.scripted import CUT, PlannedEnv, ScriptedSampler
from tests.tiny import tiny_tokenizer
from tests.unit.test_join import joined
from tests.unit.test_update import make_policy, make_state

RENDERER = ChatRenderer(tiny_tokenizer())
WINNING = ["up", f"down{CUT}", "left"]


class Alike(PlannedEnv):
    """Every episode begins alike, and looks as often as it was played in."""

    def observe(self, env_idx):
        return [f"[{self.turn[i]}]" for i in env_idx]

    def task_texts(self, env_idx):
        return [f"ask {i}" for i in env_idx]

    def legal_actions(self, env_idx):
        return [[f"<action>{self.turn[i]}</action>", "wait"] for i in env_idx]


def config_of(context: str = "trial", reflect: bool = True, **algo) -> Config:
    rollout = RolloutConfig(
        context=context, reflect=reflect, memory="both" if reflect else "history", episodes=3, max_turns=4,
        max_reply_tokens=20, max_reflection_tokens=20, temperature=0.7,
    )  # fmt: skip
    env = replace(Config().env, prompt="compact", show_actions=True)
    learn = LearnConfig(minibatches=1, max_microbatch_tokens=4096)
    return Config(env=env, rollout=rollout, algo=AlgoConfig(consolidation=0.5, **algo), learn=learn)


def played(config: Config, plan: list[list[str]], last: list[str]) -> TrialBatch:
    """Trials whose last replies are `last`, and others before."""
    env = Alike(plan)
    turns = [sum(int(episode.rstrip("LW")) for episode in trial) for trial in plan]
    totals = [n + (len(trial) - 1) * config.rollout.reflect for n, trial in zip(turns, plan, strict=True)]

    def replies(trial: int, n: int) -> str:
        left = totals[trial] - n
        return last[-left] if left <= len(last) else f"reply {n}"

    sampler, boards = ScriptedSampler(RENDERER, replies), np.arange(len(plan), dtype=np.uint64)
    groups = Boards(boards, np.zeros(len(plan), np.int32))
    return collect_trials(sampler, env, Agent(RENDERER, env, config), groups, config.rollout, seed=0)


@pytest.mark.parametrize("context", ["trial", "episode"])
@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("plan", [["2L", "1L", "3W"], ["1L", "3W"]])
def test_it_is_token_for_token_what_a_first_attempt_would_have_been(context, reflect, plan):
    config = config_of(context, reflect)
    found = as_first_attempts(played(config, [plan], WINNING))
    found.validate()
    expected = played(config, [["3W"]], WINNING)
    for name in ("tokens", "loss_mask", "cu_seqlens", "episode", "turn", "phase", "token_start", "token_end"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert found.success_by_episode.tolist() == [[True]] and found.rewards[-1] == 10


def test_only_later_episodes_that_won_are_kept_and_of_them_what_could_be_parsed():
    plan = [["3W"], ["1L", "3W"], ["1L", "1L", "3L"], ["2L", "3W"]]
    found = as_first_attempts(played(config_of(), plan, ["up", "bad", "left"]))
    assert found.trial.tolist() == [1, 1, 3, 3] and found.turn.tolist() == [0, 2, 0, 2]
    assert found.cu_trials.tolist() == [0, 0, 2, 2, 4] and found.num_sequences == 2
    texts = [
        RENDERER.text(found.tokens[a:b]) for a, b in zip(found.token_start, found.token_end, strict=True)
    ]
    assert texts == ["up", "left"] * 2
    whole = RENDERER._tokenizer.decode(found.tokens[: found.cu_seqlens[1]])
    assert "bad" in whole and "ask 1" in whole and "attempt" not in whole and "reflect" not in whole
    assert as_first_attempts(played(config_of(), [["1W"], ["1L", "1L", "1L"]], [])).num_sequences == 0


def textbook(policy, trials: TrialBatch, temperature: float) -> torch.Tensor:
    """Mean over the tokens of -log softmax(logits / temperature): a padded row per sequence, full logits."""
    policy.model.set_attn_implementation("eager")
    total, count = torch.zeros(()), 0
    for s in range(trials.num_sequences):
        ids = torch.from_numpy(trials.tokens[trials.cu_seqlens[s] : trials.cu_seqlens[s + 1]]).long()
        taught = torch.from_numpy(trials.loss_mask[trials.cu_seqlens[s] : trials.cu_seqlens[s + 1]])
        logits = policy.model(input_ids=ids[None]).logits[0, :-1].float() / temperature
        nats = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        total, count = total + nats[taught[1:]].sum(), count + int(taught.sum())
    policy.model.set_attn_implementation(register_attention())
    return total / count


def gradients_of(policy) -> dict[str, torch.Tensor]:
    found = {name: master.grad.clone() for name, master in policy.masters.items()}
    policy.zero_grad()
    return found


PLAN = [["1L", "3W"], ["2L", "1L", "3W"], ["3W"], ["1L", "1L", "1L"]]


@pytest.mark.parametrize("share", [False, True])  # prefixes
def test_loss_and_gradient_are_those_of_the_textbook(share):
    config = config_of()
    config = replace(config, learn=replace(config.learn, share_prefixes=share))
    trials, policy = played(config, PLAN, WINNING), make_policy()
    algorithm = make_state(policy, config).algorithm
    (lessons,), count = pack_lessons(trials, config)
    assert count == 2 and float(sum(batch.token_weights.sum() for batch in lessons)) == pytest.approx(1)
    found = 0.0
    for batch in lessons:
        loss = algorithm.lesson(batch).loss
        loss.backward()
        found += float(loss.detach())
    gradients = gradients_of(policy)
    expected = config.algo.consolidation * textbook(policy, as_first_attempts(trials), 0.7)
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    expected.backward()
    for name, gradient in gradients_of(policy).items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("flat", [False, True])  # no advantage: the lessons alone are an update
def test_an_update_adds_it_to_the_policys_loss(flat):
    config = config_of(old_logprobs="sampler", entropy_coef=0.0)
    trials, policy = played(config, PLAN, WINNING), make_policy()
    algorithm = make_state(policy, config).algorithm
    advantages = np.linspace(-1, 1, trials.num_turns).astype(np.float32) * (not flat)
    (minibatch,), (lessons,) = pack(trials, advantages, config), pack_lessons(trials, config)[0]
    for batch in minibatch:
        algorithm.losses(batch)["policy"]().loss.backward()
    value = textbook(policy, as_first_attempts(trials), 0.7)
    (config.algo.consolidation * value).backward()
    norm = float(torch.nn.utils.get_total_norm(list(gradients_of(policy).values())))
    alone, both = LearnStats(), LearnStats()
    assert update(algorithm, minibatch, both, lessons=lessons) == "applied"
    assert both.mean("grad_norm") == pytest.approx(norm, rel=1e-4)
    assert both.mean("consolidation_loss") == pytest.approx(float(value.detach()), rel=1e-5)
    assert both.trained_tokens == sum(len(b.packed.targets) for b in [*minibatch, *lessons])
    without = make_state(make_policy(), replace(config, algo=replace(config.algo, consolidation=0.0)))
    assert update(without.algorithm, minibatch, alone) == ("empty" if flat else "applied")
    for key in ("loss", "entropy", "clipped", "kl"):
        assert both.mean(key) == pytest.approx(alone.mean(key), abs=1e-7), key
    assert "consolidation_loss" not in alone.sums and len(both.seen[0]) == len(minibatch)


def test_minibatches_learn_from_their_own_trials_and_ranks_as_one():
    whole = won_later(make_trials(1, 3, 3, empty=(4,)))
    limits = RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10)
    learn = LearnConfig(minibatches=2, max_microbatch_tokens=200)
    config = Config(rollout=limits, algo=AlgoConfig(consolidation=2.0), learn=learn)
    ones = np.ones(whole.num_turns, np.float32)
    own = [
        {int(whole.trial[row]) for batch in minibatch for row in batch.turns}
        for minibatch in pack(whole, ones, config, iteration=3)
    ]
    lessons, count = pack_lessons(whole, config, iteration=3)
    source = as_first_attempts(whole)
    assert count == int((whole.success_by_episode.any(axis=1)).sum()) > 4
    for minibatch, trials in zip(lessons, own, strict=True):
        assert {int(source.trial[row]) for batch in minibatch for row in batch.turns} <= trials
        assert sum(float(b.token_weights.sum()) for b in minibatch) == pytest.approx(1)
        assert {float(a) for b in minibatch for a in b.advantages} == {2.0}
    assert set(source.phase) == {Phase.PLAY}

    def tokens(minibatches, s: int) -> list[tuple]:
        found = [
            list(zip(b.packed.targets.tolist(), b.token_weights.tolist(), strict=True))
            for b in minibatches[s]
        ]
        return sorted(chain.from_iterable(found))

    parts = [pack_lessons(of_rank, config, iteration=3) for of_rank in joined(whole, 2)]
    assert {part[1] for part in parts} == {count}
    for s in range(2):
        assert sorted(chain.from_iterable(tokens(part[0], s) for part in parts)) == tokens(lessons, s)
