"""What studies measure in trials, on trials made by hand; whose phases a mode lets others play."""

from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.config.resolve import resolve
from lamer_fast.envs.registry import eval_seeds, make_env
from lamer_fast.samplers.notes import ExchangedNotes
from lamer_fast.samplers.protocol import Completion, Request
from lamer_fast.study.measures import exploration, measured, of_training, plan_entropies

CONFIG = resolve("minesweeper-tiny")


def play(episode, turn, board, reply, done=False, success=False):
    found = {"phase": "play", "episode": episode, "turn": turn, "board": board}
    return found | {"reply": f"<action>{reply}</action>", "done": done, "success": success}


def note(episode, reply):
    return {"phase": "reflect", "episode": episode, "turn": 0, "board": "x", "reply": reply}


def trial(*turns, seed=0):
    return {"seed": seed, "turns": list(turns)}


def test_states_overlap_and_repeats_of_a_trial_made_by_hand():
    first = [play(0, 0, "start", "a"), play(0, 1, "A", "b", done=True)]
    again = [play(1, 0, "start", "a"), play(1, 1, "A", "b", done=True)]
    other = [play(2, 0, "start", "c"), play(2, 1, "C", "d"), play(2, 2, "D", "e", done=True)]
    found = exploration(trial(*first, note(1, "n"), *again, note(2, "n"), *other))
    assert found == (4.0, pytest.approx(1 / 3), 0.5)  # overlaps of the three pairs: 1, 0, 0
    assert exploration(trial(*first)) == (2.0, None, None)
    assert exploration(trial()) == (None, None, None)


def test_entropy_of_plans_is_that_of_their_counts():
    plans = ["a", "a", "b", "c", "x", "x", "x", "x"]
    trials = [trial(play(0, 0, "start", reply, done=True)) for reply in plans]
    assert plan_entropies(trials, 4) == [pytest.approx(1.04, abs=5e-4), 0.0]  # 1.5 ln 2 = 1.0397


def mines_of(seed):
    """By opening each cell on a board of its own."""
    env = make_env(CONFIG.env, 15, split="test")
    env.reset(np.full(15, seed, np.uint64), np.arange(15))
    cells = [f"({row}, {column})" for row in range(1, 6) for column in range(1, 4)]
    out = env.step([f"<action>{cell}</action>" for cell in cells], np.arange(15))
    texts = env.observe(np.arange(15))
    return [cell for cell, text in zip(cells, texts, strict=True) if "*" in text], cells, out


def test_statements_about_mines_are_checked_on_the_board():
    seed = int(eval_seeds(CONFIG.env, "test", 3)[2])
    mines, cells, _ = mines_of(seed)
    assert len(mines) == 5
    free = next(cell for cell in cells if cell not in mines)
    played = trial(
        play(0, 0, "start", mines[0], done=True),
        note(1, f"mine {mines[0]} {free}"),
        play(1, 0, "start", mines[1], done=True),
        note(2, f"mine {mines[1]}"),
        note(2, f"{free} is a mine, I think"),  # free words: no statement
        seed=seed,
    )
    found = measured(["notes"], [played, trial(seed=seed)], CONFIG.env, "test")
    assert found["note_true"] == [pytest.approx(2 / 3, abs=1e-3), None]
    assert found["note_complete"] == [pytest.approx((1 + 1 + 0 + 0 + 0) / 5, abs=1e-3), None]
    assert found["note_words"][0] == pytest.approx((5 + 3 + 7) / 3, abs=1e-3)


def test_statements_about_a_stuck_box_are_checked_by_playing_the_episode():
    config = resolve("sokoban-tiny").env
    seeds = eval_seeds(config, "valid", 40)
    env = make_env(replace(config, track_dead=True), 40, split="valid")
    env.reset(seeds, np.arange(40))
    replies = [[] for _ in range(40)]
    rng = np.random.default_rng(0)
    for _ in range(8):
        moves = [f"<action>{rng.choice(['up', 'down', 'left', 'right'])}</action>" for _ in range(40)]
        env.step(moves, np.arange(40))
        for own, move in zip(replies, moves, strict=True):
            own.append(move)
    dead = env.batch.flags(np.arange(40))[2]
    assert 0 < dead.sum() < 40
    trials = []
    for seed, own in zip(seeds.tolist(), replies, strict=True):
        turns = [
            play(0, i, "", reply.removeprefix("<action>").removesuffix("</action>"))
            for i, reply in enumerate(own)
        ]
        trials.append(trial(*turns, note(1, "stuck: up"), seed=seed))
    found = measured(["notes"], trials, config, "valid")
    assert found["note_true"] == [float(is_dead) for is_dead in dead]


def test_novelty_is_against_all_earlier_iterations():
    def of(*notes):
        return [trial(*(note(1, text) for text in notes))]

    found = of_training({0: of("a b", "c"), 1: of("c", "d e f"), 2: of("a b", "d e f")}, CONFIG.env)
    assert found["iteration"] == [1, 2, 3]
    assert found["note_new"] == [1.0, 0.5, 0.0] and found["note_words"] == [1.5, 2.0, 2.5]
    assert found["note_true"] == [None, None, None]


class Answers:
    """A sampler that writes the trial's number to every request."""

    def __init__(self, renderer):
        self.renderer, self.asked = renderer, []

    def submit(self, request):
        self.asked.append(request)

    def poll(self):
        asked, self.asked = self.asked, []
        texts = [f"mine ({r.trial + 1}, 1) (2, {r.trial + 1})" for r in asked]
        return [
            Completion(r.id, ids, np.zeros(len(ids), np.float32), True, 0)
            for r, ids in zip(asked, self.renderer.replies(texts), strict=True)
        ]


@pytest.fixture(scope="module")
def agent():
    from lamer_fast.agent.agent import Agent
    from lamer_fast.learn.policy import read_model

    return Agent(
        read_model(CONFIG, training=False).renderer(), make_env(CONFIG.env, 2, split="train"), CONFIG
    )


@pytest.mark.parametrize("kind", ["other", "empty", "shuffled"])
def test_notes_are_exchanged_and_moves_are_not(agent, kind):
    sampler = ExchangedNotes(Answers(agent.renderer), kind, agent)

    def replies(reflects, episode=1):
        for t in range(3):
            asked = Request(t, t, np.zeros(1, np.int32), 7, 16, (), reflects=reflects, episode=episode)
            sampler.submit(asked)
        return agent.renderer.texts([c.token_ids for c in sampler.poll()])

    own = [f"mine ({t + 1}, 1) (2, {t + 1})" for t in range(3)]
    assert replies(False) == own
    found = replies(True)
    if kind == "other":
        assert found == ["", own[0], own[1]]
        assert replies(True) == [own[2], own[0], own[1]]
        assert replies(True, episode=2)[0] == ""  # nobody has written about two failed episodes yet
    elif kind == "empty":
        assert found == [""] * 3
    else:
        assert [sorted(text.split()) for text in found] == [sorted(text.split()) for text in own]
        assert found != own and found == replies(True)


def test_exchanged_notes_need_notes():
    with pytest.raises(ValueError, match=r"eval.notes = 'empty' contradicts eval.memory = 'history'"):
        resolve("minesweeper-tiny", ["--eval.notes", "empty", "--eval.memory", "history"])
