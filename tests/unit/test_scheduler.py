"""The state machine of a trial against a scripted sampler: orders of phases, and what is stored of each."""

from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import Config
from lamer_fast.envs.contract import AllLostError, EnvError
from lamer_fast.envs.protocol import TurnOut
from lamer_fast.rollout.boards import Boards, draw_boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.rollout.trial_batch import Phase
from lamer_fast.samplers.protocol import Sampling
from tests.scripted import CUT, PlannedEnv, ScriptedSampler
from tests.tiny import tiny_tokenizer

RENDERER = ChatRenderer(tiny_tokenizer())
PLAY, REFLECT = Phase.PLAY, Phase.REFLECT


def play(
    env,
    replies=lambda trial, n: f"reply {n}",
    order=lambda waiting: waiting,
    limit=100_000,
    record=None,
    num_recorded=32,
    show_actions=False,
    **rollout,
):
    """(TrialBatch, sampler) of one trial per board of `env`."""
    config = Config()
    defaults = {"max_turns": 4, "max_reply_tokens": 20, "max_reflection_tokens": 30}
    config = replace(
        config,
        env=replace(config.env, prompt="compact", show_actions=show_actions),
        rollout=replace(config.rollout, **defaults | rollout),
    )
    sampler = ScriptedSampler(RENDERER, replies, order, limit)
    boards = Boards(
        np.arange(env.num_envs, dtype=np.uint64) + 50, np.arange(env.num_envs, dtype=np.int32) // 2
    )
    trials = collect_trials(
        sampler, env, Agent(RENDERER, env, config), boards, config.rollout, seed=3, record=record,
        num_recorded=num_recorded,
    )  # fmt: skip
    trials.validate()
    return trials, sampler


def test_training_draws_by_temperature_alone():
    _, sampler = play(PlannedEnv([["2W"]]), temperature=1.3)
    (requests,) = sampler.requests.values()
    assert [request.sampling for request in requests] == [Sampling(temperature=1.3)] * 2


def story(trials, trial=0):
    """[(phase, episode, turn), ...] of a trial."""
    rows = slice(*trials.cu_trials[trial : trial + 2])
    return list(
        zip(
            trials.phase[rows].tolist(),
            trials.episode[rows].tolist(),
            trials.turn[rows].tolist(),
            strict=True,
        )
    )


def texts(trials):
    return [
        RENDERER._tokenizer.decode(trials.tokens[a:b])
        for a, b in zip(trials.cu_seqlens, trials.cu_seqlens[1:], strict=False)
    ]


def test_phases_of_a_trial_that_fails_to_the_end():
    trials, _ = play(PlannedEnv([["2L", "1L", "9"]]))
    assert story(trials) == [
        (PLAY, 0, 0), (PLAY, 0, 1), (REFLECT, 1, 0), (PLAY, 1, 0), (REFLECT, 2, 0),
        (PLAY, 2, 0), (PLAY, 2, 1), (PLAY, 2, 2), (PLAY, 2, 3),
    ]  # fmt: skip
    assert trials.done.tolist() == [False, True, False, True, False, False, False, False, True]
    assert trials.truncated.tolist() == [False] * 8 + [True], "only the last episode ran into the turn limit"
    assert not trials.success_by_episode.any()
    assert trials.rewards[trials.phase == REFLECT].tolist() == [0, 0]
    assert trials.anchors[trials.phase == REFLECT].tolist() == [0, 0]
    assert (trials.policy_version == 7).all()


def test_a_trial_ends_at_its_first_success():
    trials, sampler = play(PlannedEnv([["1L", "2W", "1L"]]))
    assert story(trials) == [(PLAY, 0, 0), (REFLECT, 1, 0), (PLAY, 1, 0), (PLAY, 1, 1)]
    assert trials.success_by_episode.tolist() == [[False, True, False]]
    assert trials.success_at().tolist() == [0, 1, 1]
    assert sampler.released == {0}


def test_without_reflections_the_next_episode_follows_at_once():
    trials, _ = play(PlannedEnv([["1L", "1L"]]), reflect=False, episodes=2)
    assert story(trials) == [(PLAY, 0, 0), (PLAY, 1, 0)]
    assert "[e0 t1]\nattempt 2\n[e1 t0]" in texts(trials)[0], "the final board is shown before the new one"


def test_one_episode_has_no_reflection():
    trials, _ = play(PlannedEnv([["1L"]]), episodes=1)
    assert story(trials) == [(PLAY, 0, 0)]


def test_an_environments_own_cut_is_truncated():
    trials, _ = play(PlannedEnv([["1T"]]), episodes=1)
    assert trials.done.tolist() == trials.truncated.tolist() == [True]


def test_what_the_model_sees_in_context_trial():
    trials, _ = play(PlannedEnv([["2L", "1W"]]), episodes=2)
    reply = "<|im_start|>assistant\nreply {}<|im_end|>\n<|im_start|>user\n"
    expected = (
        "<|im_start|>user\nTASK\n[e0 t0]<|im_end|>\n"
        + reply.format(0) + "[e0 t1]<|im_end|>\n" + reply.format(1)
        + "[e0 t2]\nreflect<|im_end|>\n" + reply.format(2) + "attempt 2\n[e1 t0]<|im_end|>\n"
        + "<|im_start|>assistant\nreply 3<|im_end|>"
    )  # fmt: skip
    assert texts(trials) == [expected]


class AsksAndOffers(PlannedEnv):
    def task_texts(self, env_idx):
        return [f"ask {i}" for i in env_idx]

    def legal_actions(self, env_idx):
        return [[f"<action>{self.episode[i]}{self.turn[i]}</action>", "wait"] for i in env_idx]


def test_what_a_task_asks_and_what_can_be_done_is_shown():
    record = []
    trials, _ = play(AsksAndOffers([["2L", "1W"]]), episodes=2, show_actions=True, record=record)
    user = [text.split("<|im_end|>")[0] for text in texts(trials)[0].split("<|im_start|>user\n")[1:]]
    assert user == [
        "TASK\nask 0\n[e0 t0]\n00\nwait",
        "[e0 t1]\n01\nwait",
        "[e0 t2]\nreflect",
        "attempt 2\n[e1 t0]\n10\nwait",
    ]
    assert record[0]["task_text"] == "ask 0"


@pytest.mark.parametrize("context", ["trial", "episode", "turn"])
def test_stored_tokens_are_what_was_asked_and_sampled(context):
    trials, sampler = play(PlannedEnv([["2L", "1L", "1W"], ["1W"], ["3L", "9", "2L"]]), context=context)
    sequences = {"trial": 3, "episode": 7, "turn": trials.num_turns}[context]
    assert trials.num_sequences == sequences
    requests = [request for trial in range(3) for request in sampler.requests[trial]]
    assert len(requests) == trials.num_turns
    for row, request in enumerate(requests):
        begin = trials.cu_seqlens[trials.sequence[row]]
        a, b = trials.token_start[row], trials.token_end[row]
        assert trials.tokens[begin:a].tolist() == request.token_ids.tolist()
        n = b - a
        assert trials.rollout_logprobs[a:b].tolist() == [-float(i) for i in range(1, n + 1)]
        assert trials.tokens[b - 1] == RENDERER.end_ids[0] and trials.loss_mask[b - 1], (
            "a sampled end is trained"
        )
    sampled = np.zeros(len(trials.tokens), bool)
    for a, b in zip(trials.token_start, trials.token_end, strict=True):
        sampled[a:b] = True
    assert (trials.loss_mask == sampled).all()
    assert (trials.rollout_logprobs[~sampled] == 0).all()


def test_a_reflection_stands_in_the_sequence_of_the_episode_before_it():
    trials, _ = play(PlannedEnv([["1L", "1L", "1L"]]), context="episode", memory="reflection")
    assert trials.sequence.tolist() == [0, 0, 1, 1, 2]
    assert "attempt 1 failed: reply 1" in texts(trials)[1]
    assert "attempt 2 failed: reply 3" in texts(trials)[2]


def test_a_cut_reply_gets_an_end_token_that_is_not_trained():
    trials, _ = play(PlannedEnv([["2W"]]), replies=lambda trial, n: "long" + CUT)
    end = trials.token_end[0]
    assert trials.tokens[end - 1] != RENDERER.end_ids[0]
    assert trials.tokens[end] == RENDERER.end_ids[0] and not trials.loss_mask[end]
    assert texts(trials)[0].count("long<|im_end|>\n<|im_start|>user") == 1


def test_unparsable_replies_and_reflections_are_marked():
    replies = ["ok", "bad", " ", "ok"]  # turn, turn, empty reflection, turn
    trials, _ = play(PlannedEnv([["2L", "1W"]]), replies=lambda trial, n: replies[n], episodes=2)
    assert trials.valid.tolist() == [True, False, False, True]


def test_an_error_of_the_environment_costs_that_trial_only():
    env = PlannedEnv([["9", "9"], ["2L", "1W"], ["1W", "1L"]])
    trials, sampler = play(env, replies=lambda t, n: "break" if (t, n) == (0, 1) else "ok", episodes=2)
    assert trials.errors == {0: "connection lost"}
    assert np.diff(trials.cu_trials).tolist() == [0, 4, 1]
    assert trials.success_by_episode.tolist() == [[False, False], [False, True], [True, False]]
    assert sampler.released == {0, 1, 2}


def test_all_trials_lost_is_an_error():
    record = []
    with pytest.raises(AllLostError, match="2 of 2 trials failed, the first is trial 0: connection lost"):
        play(PlannedEnv([["9"], ["9"]]), replies=lambda t, n: "break", record=record)
    assert [(r["trial"], r["error"]) for r in record] == [(0, "connection lost"), (1, "connection lost")]
    assert record[0]["turns"][0]["reply"] == "break", "the reply that broke it can be read"


def test_an_error_in_the_last_episode_costs_the_whole_trial():
    env = PlannedEnv([["1L", "9"], ["1L", "2W"]])
    record = []
    broken = lambda t, n: "break" if (t, n) == (0, 3) else "ok"  # noqa: E731
    trials, _ = play(env, replies=broken, episodes=2, record=record)
    assert trials.errors == {0: "connection lost"} and np.diff(trials.cu_trials).tolist() == [0, 4]
    assert [record[t].get("error") for t in (0, 1)] == ["connection lost", None]


def test_a_lost_trial_beyond_the_recorded_ones_is_written_down_too():
    record = []
    play(
        PlannedEnv([["1W"]] * 5),
        replies=lambda t, n: "break" if t == 4 else "ok",
        record=record,
        num_recorded=2,
    )
    assert [(r["trial"], len(r["turns"])) for r in record] == [(0, 1), (1, 1), (4, 0)]


def test_a_lost_board_is_not_called_again():
    env = PlannedEnv([["9", "9"], ["9", "9"]])
    named = []
    restart = env.restart
    env.restart = lambda env_idx: named.extend(env_idx.tolist()) or restart(env_idx)
    play(env, replies=lambda t, n: "break" if t == 0 else "ok", episodes=2)
    assert named == [1]


def test_a_trial_that_would_outgrow_the_sampler_ends_as_truncated():
    free, _ = play(PlannedEnv([["3L", "1L"]]), episodes=2)
    room = int(free.token_end[1]) + 21  # the third prompt and a reply of 20 do not fit any more
    trials, sampler = play(PlannedEnv([["3L", "1L"]]), episodes=2, limit=room)
    assert story(trials) == [(PLAY, 0, 0), (PLAY, 0, 1)]
    assert trials.truncated.tolist() == [False, True] and trials.done.tolist() == [False, True]
    assert trials.cu_seqlens[-1] == trials.token_end[-1], "nothing after the last reply is kept"
    assert sampler.released == {0}


def test_a_first_prompt_that_cannot_fit_is_an_error():
    with pytest.raises(ValueError, match=r"first prompt of .* exceed max_sequence_tokens 40"):
        play(PlannedEnv([["1L"]]), limit=40)


def test_results_do_not_depend_on_the_order_of_the_replies():
    plan = [["2L", "1L", "1W"], ["1W"], ["3L", "9", "2L"], ["9", "9", "9"]]
    reply = lambda trial, n: f"{trial}-{n}"  # noqa: E731
    together, sampler = play(PlannedEnv(plan), reply)
    rng = np.random.default_rng(0)
    some = lambda waiting: [t for t in rng.permutation(waiting).tolist() if rng.random() < 0.5]  # noqa: E731
    ragged, other = play(PlannedEnv(plan), reply, some)
    for name, value in vars(together).items():
        assert np.array_equal(value, getattr(ragged, name)), name
    seeds = lambda s: {t: [r.seed for r in requests] for t, requests in s.requests.items()}  # noqa: E731
    assert seeds(sampler) == seeds(other)
    drawn = [seed for trial in seeds(sampler).values() for seed in trial]
    assert len(set(drawn)) == len(drawn)


def test_trials_with_replies_go_on_whatever_the_others_do():
    env = PlannedEnv([["2W"], ["2W"]])
    slow_first = iter([[1], [1], [0], [0]])
    play(env, order=lambda waiting: next(slow_first), episodes=1)
    assert env.calls == [[1], [1], [0], [0]]


def test_transcripts_tell_what_happened():
    record = []
    play(PlannedEnv([["1L", "1W"], ["1W", "1L"]]), episodes=2, record=record)
    assert [r["trial"] for r in record] == [0, 1] and record[0]["seed"] == 50
    assert record[0]["success_by_episode"] == [False, True]
    turns = record[0]["turns"]
    assert [(t["phase"], t["episode"], t["board"], t["reply"]) for t in turns] == [
        ("play", 0, "[e0 t0]", "reply 0"),
        ("reflect", 1, "[e0 t1]", "reply 1"),
        ("play", 1, "[e1 t0]", "reply 2"),
    ]  # fmt: skip
    assert turns[2]["reward"] == 10 and turns[2]["success"] and turns[0]["done"]


def test_too_few_boards_is_an_error():
    env = PlannedEnv([["1L"]])
    config = Config()
    with pytest.raises(ValueError, match="128 trials need as many boards, the environment has 1"):
        collect_trials(
            ScriptedSampler(RENDERER, lambda t, n: ""), env, Agent(RENDERER, env, config), draw_boards(config,
            0), config.rollout, seed=0,
        )  # fmt: skip


def test_boards_are_a_function_of_seed_and_iteration():
    config = Config()
    first, again, later = draw_boards(config, 0), draw_boards(config, 0), draw_boards(config, 1)
    assert np.array_equal(first.seeds, again.seeds) and not np.intersect1d(first.seeds, later.seeds).size
    other = draw_boards(replace(config, train=replace(config.train, seed=1)), 0)
    assert not np.intersect1d(first.seeds, other.seeds).size
    G = config.rollout.trials_per_group
    assert len(np.unique(first.seeds)) == config.rollout.groups
    assert (first.seeds.reshape(-1, G) == first.seeds[::G, None]).all()
    assert first.group.tolist() == [g for g in range(config.rollout.groups) for _ in range(G)]


class Slow(PlannedEnv):
    """Board 0's turns are over two polls after those of the others, which come in reverse order."""

    def submit(self, replies, env_idx):
        turns = [[2 * (i == 0), reply, i] for i, reply in zip(env_idx, replies, strict=True)]
        self.begun = [*getattr(self, "begun", []), *turns]

    def poll(self, wait_s=0.0):
        over = [turn for turn in self.begun if turn[0] == 0][::-1]
        self.begun = [[max(0, polls - 1), r, i] for polls, r, i in self.begun if polls]
        boards = np.array([i for _, _, i in over], np.int64)
        return boards, self.step([reply for _, reply, _ in over], boards) if over else NO_TURN


NO_TURN = TurnOut(np.zeros(0, np.float32), *(np.zeros(0, bool) for _ in range(4)), [])


def test_turns_that_are_over_at_different_times_make_the_same_trials():
    plan = [["2L", "1L", "1W"], ["1W"], ["3L", "9", "2L"], ["9", "9", "9"]]
    reply = lambda trial, n: "break" if (trial, n) == (3, 5) else f"{trial}-{n}"  # noqa: E731
    at_once, sampler = play(PlannedEnv(plan), reply)
    slow, other = play(env := Slow(plan), reply)
    for name, values in vars(at_once).items():
        np.testing.assert_array_equal(getattr(slow, name), values, err_msg=name)
    assert slow.errors == {3: "connection lost"}
    assert max(len(call) for call in env.calls) == 3, "nobody waits for board 0"
    for trial, requests in sampler.requests.items():
        assert [r.seed for r in other.requests[trial]] == [r.seed for r in requests]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda boards, out: (boards, None), r"poll\(\) returned None, expected a TurnOut"),
        (lambda boards, out: out, r"poll\(\) returned another thing than a pair"),
        (lambda boards, out: (boards + 7, out), r"poll\(\) returned boards \[7\], expected each once"),
        (lambda boards, out: (boards[[0, 0]], out), r"poll\(\) returned boards \[0, 0\], expected each once"),
        (lambda boards, out: 1 / 0, r"poll\(\) raised ZeroDivisionError"),
    ],
)
def test_what_poll_may_not_answer(answer, message):
    class Wrong(Slow):
        def poll(self, wait_s=0.0):
            boards, out = super().poll()
            return answer(boards, out) if len(boards) else (boards, out)

    with pytest.raises(EnvError, match=message):
        play(Wrong([["2W"]]))


def test_a_turn_that_cannot_begin_costs_its_trial():
    class Refuses(Slow):
        def submit(self, replies, env_idx):
            if 1 in env_idx and self.turn[1] == 1:
                raise ConnectionError("gone")
            super().submit(replies, env_idx)

    trials, _ = play(Refuses([["1W"], ["2W"], ["3L", "1W"]]), order=lambda waiting: waiting[:1])
    assert list(trials.errors) == [1] and trials.errors[1].startswith("submit() raised ConnectionError: gone")
    assert trials.success_at().tolist()[-1] == pytest.approx(2 / 3)
