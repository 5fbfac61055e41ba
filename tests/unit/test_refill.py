"""Dynamic sampling: which groups teach nothing, what takes their place, and what it all took."""

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import Config, RolloutConfig
from lamer_fast.envs.contract import EnvError
from lamer_fast.learn.ranks import ALONE, Ranks
from lamer_fast.rollout.boards import Boards, draw_boards
from lamer_fast.rollout.collect import play_trials
from lamer_fast.rollout.refill import flat_groups, replaced
from lamer_fast.rollout.trial_batch import TURN_COLUMNS, TrialBatch
from lamer_fast.run.collection import Draws, Part, of_all_ranks, refill
from tests.hand_made import make_trials
from tests.scripted import PlannedEnv, ScriptedSampler
from tests.tiny import tiny_tokenizer

RENDERER = ChatRenderer(tiny_tokenizer())
GROUP = np.repeat(np.arange(3, dtype=np.int32), 4)


def earned(trials: TrialBatch, by_trial: list[list[float]]) -> TrialBatch:
    """Each episode's sum of rewards, earned by its last turn alone."""
    rewards = np.zeros(trials.num_turns, np.float32)
    for m, of_episodes in enumerate(by_trial):
        for k, value in enumerate(of_episodes):
            rewards[np.flatnonzero((trials.trial == m) & (trials.episode == k))[-1:]] = value
    return replace(trials, rewards=rewards)


def test_a_group_is_flat_when_its_trials_earned_the_same_in_every_episode():
    trials = make_trials(0, 3, 4, episodes=1)
    values = [[0.95]] * 7 + [[0.0]] + [[0.95]] * 4  # one loser among winners makes a difference for all four
    assert flat_groups(earned(trials, values), GROUP) == [0, 2]
    trials = earned(make_trials(3, 3, 4, episodes=3), [[0.0]] * 12)
    assert flat_groups(trials, GROUP) == [0, 1, 2]
    late = next(m for m in range(12) if (trials.episode[trials.trial == m] == 1).any())
    other = next(m for m in range(12) if m // 4 == late // 4 and m != late)
    values = [[0.0, 0.0]] * 12
    values[late], values[other] = [0.0, 1.0], [1.0, 0.0]
    assert flat_groups(earned(trials, values), GROUP) == sorted({0, 1, 2} - {late // 4}), "sums are equal"


def test_by_success_it_matters_which_episode_was_won_and_nothing_else():
    trials = earned(make_trials(0, 3, 4, episodes=2), [[float(m)] for m in range(12)])
    won = np.zeros((12, 2), bool)
    won[0, 0], won[1:4, 1], won[8:, 1] = True, True, True
    assert flat_groups(replace(trials, success_by_episode=won), GROUP, "success") == [1, 2]
    assert flat_groups(replace(trials, success_by_episode=won), GROUP) == []


def test_trials_that_were_lost_do_not_count():
    trials = earned(make_trials(0, 3, 4, 1, empty=(0, 5, 6, 7, 8, 9, 10, 11)), [[1.0]] * 4 + [[2.0]] * 8)
    assert flat_groups(trials, GROUP) == [0, 1, 2], "three alike, one left, none left"


def turns_of(trials: TrialBatch, m: int) -> list[tuple]:
    rows = range(*trials.cu_trials[m : m + 2])
    kept = [n for n in TURN_COLUMNS if n not in ("trial", "sequence", "token_start", "token_end")]
    stored = []
    for row in rows:
        a, b = trials.cu_seqlens[trials.sequence[row] :][:2]
        own = slice(trials.token_start[row] - a, trials.token_end[row] - a)
        tokens, logprobs = trials.tokens[a:b], trials.rollout_logprobs[a:b]
        stored.append((tokens.tolist(), logprobs.tolist(), trials.loss_mask[a:b].tolist(), own))
        assert trials.trial[row] == m
    return [tuple(getattr(trials, n)[row].item() for n in kept) for row in rows] + stored


@pytest.mark.parametrize("at", [[], [0], [1, 3, 5], [0, 1, 2, 3, 4, 5]])
def test_trials_take_the_place_of_others(at):
    trials, more = make_trials(1, 2, 3, empty=(1, 4)), make_trials(2, 2, 3, empty=(0, 2))
    others = replaced(more, more, np.arange(0))  # nothing: the same
    for name in vars(more):
        assert np.array_equal(getattr(others, name), getattr(more, name)), name
    few = Boards(np.arange(6, dtype=np.uint64), np.repeat(np.arange(2, dtype=np.int32), 3))
    assert len(few.of([1])) == 3 and few.of([1]).trial.tolist() == [3, 4, 5]
    source = [at.index(m) if m in at else None for m in range(6)]
    found = replaced(trials, first_of(more, len(at)), np.array(at, np.int64))
    found.validate()
    for m, i in enumerate(source):
        expected, j = (trials, m) if i is None else (more, i)
        assert turns_of(found, m) == [t for t in turns_of(expected, j)]
        assert found.seed[m] == expected.seed[j] and found.errors.get(m) == expected.errors.get(j)


def first_of(trials: TrialBatch, count: int) -> TrialBatch:
    rows, sequences = (
        slice(trials.cu_trials[count]),
        len(np.unique(trials.sequence[: trials.cu_trials[count]])),
    )
    tokens = slice(trials.cu_seqlens[sequences])
    return replace(
        trials, tokens=trials.tokens[tokens], loss_mask=trials.loss_mask[tokens],
        rollout_logprobs=trials.rollout_logprobs[tokens], cu_seqlens=trials.cu_seqlens[: sequences + 1],
        **{name: getattr(trials, name)[rows] for name in TURN_COLUMNS},
        cu_trials=trials.cu_trials[: count + 1], seed=trials.seed[:count], task=trials.task[:count],
        success_by_episode=trials.success_by_episode[:count],
        errors={m: text for m, text in trials.errors.items() if m < count},
    )  # fmt: skip


class BySeed(PlannedEnv):
    """Two boards in three are lost by everybody; on the others every second trial wins, of all ranks'."""

    def __init__(self, num_envs: int, numbers: list[int]) -> None:
        super().__init__([["1L", "1L"]] * num_envs)
        self.numbers = numbers  # of the trials among those of all ranks

    def reset(self, seeds, env_idx=None) -> None:
        super().reset(seeds)
        for i, (seed, number) in enumerate(zip(seeds.tolist(), self.numbers, strict=True)):
            self.plan[i] = ["1L", "1L"] if seed % 3 or number % 2 else ["1L", "1W"]


def config_of(spare: int) -> Config:
    rollout = RolloutConfig(
        groups=5, trials_per_group=4, episodes=2, max_turns=2, spare_groups=spare, max_reply_tokens=20,
        max_reflection_tokens=20,
    )  # fmt: skip
    return replace(Config(), env=replace(Config().env, prompt="compact"), rollout=rollout)


def collected(config: Config, ranks: Ranks = ALONE) -> tuple[TrialBatch, Draws, list, Boards, list]:
    """As `collect` does, with a scripted sampler."""
    drawn: list[list[int]] = []

    def play(boards: Boards, draw: int) -> Part:
        drawn.append(np.unique(boards.group).tolist())
        share, record = boards.share(ranks.rank, ranks.world), []
        env = BySeed(len(share), share.trial.tolist())
        sampler = ScriptedSampler(RENDERER, lambda trial, n: f"{draw} {share.trial[trial]} {n}")
        agent = Agent(RENDERER, env, config)
        trials = play_trials(sampler, env, agent, share, config.rollout, seed=draw, record=record)
        return Part(trials, None, record)

    boards, transcripts = draw_boards(config, 7), []
    part, boards, draws = refill(config, ranks, 7, play(boards, 0), boards, play)
    trials = of_all_ranks(ranks, boards, part, transcripts)
    trials.validate()
    return trials, draws, transcripts, boards, drawn


def test_flat_groups_are_drawn_again_until_none_is_left():
    trials, draws, transcripts, boards, drawn = collected(config_of(1000))
    assert flat_groups(trials, boards.group) == [] and draws.flat == 0
    assert draws.flat_drawn == len(drawn[1]) > 0 and draws.groups == sum(map(len, drawn))
    assert all(set(later) <= set(earlier) for earlier, later in pairwise(drawn))
    assert (boards.seeds % 3 == 0).all() and np.array_equal(trials.seed, boards.seeds)
    assert [t["trial"] for t in transcripts] == list(range(20)) and trials.success_at().tolist() == [0, 0.5]
    for transcript in transcripts:
        rows = range(*trials.cu_trials[transcript["trial"] :][:2])
        assert [RENDERER.text(trials.tokens[trials.token_start[r] : trials.token_end[r]]) for r in rows] == [
            turn["reply"] for turn in transcript["turns"]
        ]
    unchosen = np.mean(draw_boards(config_of(0), 7).seeds % 3 == 0)
    assert draws.success_at == [0, unchosen / 2] and unchosen < 1, "of the first draw, not of those kept"
    assert draws.sampled > 0 and draws.prompt > draws.sampled


def test_spare_groups_are_a_bound():
    trials, draws, _, boards, drawn = collected(config_of(1))
    everything = collected(config_of(1000))
    assert draws.groups == 6 and drawn[1:] == [drawn[1][:1]]
    assert draws.flat == len(flat_groups(trials, boards.group)) > 0
    first = drawn[1][0]
    assert everything[4][1][0] == first, "the first flat group is the first to be replaced"


class Thread(Ranks):
    """Ranks that are threads of this process."""

    def __init__(self, rank: int, world: int, shared: list, barrier: threading.Barrier) -> None:
        super().__init__(rank, world)
        self.shared, self.barrier = shared, barrier

    def gather(self, value):
        self.shared[self.rank] = value
        self.barrier.wait(60)
        found = list(self.shared)
        self.barrier.wait(60)
        return found


def on_threads(world: int, function) -> list:
    shared, barrier, found = [None] * world, threading.Barrier(world), [None] * world

    def run(rank: int) -> None:
        found[rank] = function(Thread(rank, world, shared, barrier))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize(("spare", "world"), [(3, 3), (1000, 3), (3, 7)])  # two of seven have no group
def test_ranks_draw_what_one_process_draws(spare, world):
    alone, ranks = collected(config_of(spare)), on_threads(world, lambda r: collected(config_of(spare), r))
    for trials, draws, transcripts, boards, drawn in ranks:
        assert draws == alone[1] and transcripts == alone[2] and drawn == alone[4]
        assert np.array_equal(boards.seeds, alone[3].seeds)
        for name in {*TURN_COLUMNS, "success_by_episode", "seed"} - {"sequence", "token_start", "token_end"}:
            assert np.array_equal(getattr(trials, name), getattr(alone[0], name)), name


def test_a_rank_that_fails_ends_the_refill_on_all():
    def failing(ranks: Ranks):
        config = config_of(5)
        boards = draw_boards(config, 7)
        trials = make_trials(0, len(boards.share(ranks.rank, 2)) // 4, 4)
        part = Part(replace(trials, rewards=np.zeros(trials.num_turns, np.float32)), None, [])

        def play(boards: Boards, draw: int) -> Part:
            return Part(None, EnvError("gone"), []) if ranks.rank else part

        part, boards, draws = refill(config, ranks, 7, part, boards, play)
        try:
            of_all_ranks(ranks, boards, part, [])
        except EnvError as error:
            return draws, str(error)

    assert on_threads(2, failing) == [(None, "gone")] * 2
