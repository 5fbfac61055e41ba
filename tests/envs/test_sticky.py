"""Sticky moves in Sokoban: whose luck it is, what is told of it, and the best explorer under it."""

from collections import Counter
from functools import cache

import numpy as np
import pytest

from lamer_fast import _C
from lamer_fast.envs import check_env, make, text_env
from lamer_fast.envs.native.controls import NUM_RULES, RULES, Beliefs, facts, prior
from lamer_fast.envs.registry import entry
from lamer_fast.study.gradient import boards as lab
from tests.envs.sokoban_rules import MOVES, parse

SMALL = {"height": 5, "width": 5, "num_boxes": 1, "min_moves": 2, "max_moves": 3}
STILL = 4


def seeds(count, first=0):
    return np.arange(first, first + count, dtype=np.uint64)


class Board:
    """The game once more, in Python: a state is (player, boxes)."""

    def __init__(self, text):
        rows, self.player, self.boxes, self.targets = parse(text)
        self.cells, self.width = "".join(rows), len(rows[0])

    @property
    def start(self):
        return self.player, self.boxes

    def after(self, state, move):
        if move == STILL:
            return state
        player, boxes = state
        step = MOVES[move][0] * self.width + MOVES[move][1]
        to, beyond = player + step, player + 2 * step
        if self.cells[to] == "#":
            return state
        if to in boxes:
            if self.cells[beyond] == "#" or beyond in boxes:
                return state
            boxes = (boxes - {to}) | {beyond}
        return to, boxes


def shown(text):
    _, player, boxes, _ = parse("\n".join(line for line in text.split("\n") if ": " not in line))
    return player, boxes


def play(batch, episodes, turns, words):
    """[episodes, turns + 1] lists of texts, the same words in every episode."""
    story = []
    for episode in range(episodes):
        if episode:
            batch.restart()
        story.append([batch.texts()])
        for turn in range(turns):
            batch.step(np.ascontiguousarray(words[turn])[:, None])
            story[-1].append(batch.texts())
    return story


@pytest.mark.parametrize("controls", ["plain", "permuted", "broken"])
@pytest.mark.parametrize("show_moves", [False, True])
def test_a_turn_makes_its_own_move_or_the_last_one_again(controls, show_moves):
    """Two boxes, so that no board is done soon; what sticks is what was made, not what was said."""
    count, turns = 300, 6
    batch = make(
        "sokoban", count, controls=controls, sticky=0.4, show_moves=show_moves, min_moves=8, style="compact"
    )
    batch.reset(seeds(count))
    words = np.random.default_rng(0).integers(0, 5, (turns, count)).astype(np.int32)
    rules, told = batch.rules(), 0
    for story in play(batch, 2, turns, words):
        for i in range(count):
            board = Board(story[0][i])
            state, last = board.start, None
            for turn in range(turns):
                asked = int(RULES[rules[i], words[turn, i]])
                now = shown(story[turn + 1][i])
                here, again = board.after(state, asked), last is not None and board.after(state, last)
                assert now in (here, again) if last is not None else now == here
                move = asked if now == here else last
                told += now != here
                if show_moves:
                    way = "nothing" if now == state else ("up", "down", "left", "right")[move]
                    name = ("up", "down", "left", "right", "still")[words[turn, i]]
                    assert story[turn + 1][i].endswith(f"\n{name}: {way}")
                last, state = (move if now != state else STILL), now
    assert told > 300


def test_moves_stick_as_often_as_said_and_never_at_first():
    """On a line where every word leads elsewhere: right is asked for after left, and can be told apart."""
    level = "##########\n#    @   #\n# $ .    #\n##########"
    count, sticky = 4000, 0.3
    batch = make("sokoban", count, levels=[level], sticky=sticky, style="compact")
    batch.reset(seeds(count))
    for _ in range(2):  # in every episode
        first = batch.texts()
        batch.step(np.full((count, 1), 2, np.int32))
        assert set(batch.texts()) == {first[0].replace("_P", "P_")}
        batch.step(np.full((count, 1), 3, np.int32))
        stuck = np.array([text != first[0] for text in batch.texts()])
        error = (sticky * (1 - sticky) / count) ** 0.5
        assert abs(stuck.mean() - sticky) < 4 * error
        batch.restart()


def test_luck_is_of_seed_episode_and_turn_alone():
    count, turns = 64, 8
    config = {"controls": "permuted", "sticky": 0.5, "min_moves": 8}
    words = np.random.default_rng(1).integers(0, 4, (turns, count)).astype(np.int32)

    def story(num_threads=1, order=None, size=count):
        order = np.arange(count) if order is None else order
        found = [[[None] * count for _ in range(turns + 1)] for _ in range(3)]
        for first in range(0, count, size):
            own = order[first : first + size]
            batch = make("sokoban", len(own), num_threads=num_threads, **config)
            batch.reset(seeds(count)[own])
            for episode, rows in enumerate(play(batch, 3, turns, words[:, own])):
                for turn, texts in enumerate(rows):
                    for place, text in zip(own.tolist(), texts, strict=True):
                        found[episode][turn][place] = text
        return found

    alone = story()
    assert alone == story(num_threads=4) == story(order=np.arange(count)[::-1]) == story(size=7)
    same = [a == b for a, b in zip(alone[0][-1], alone[1][-1], strict=True)]
    assert np.mean(same) < 0.5  # an episode has luck of its own
    batch = make("sokoban", count, **config)
    batch.reset(np.full(count, 5, np.uint64))  # trials of a group meet the same
    batch.restart()
    for _ in range(turns):
        batch.step(np.repeat(words[0, :1], count)[:, None])
    assert len(set(batch.texts())) == 1


def test_an_unreadable_reply_changes_nothing_and_is_not_repeated():
    batch = make("sokoban", 200, sticky=0.5, min_moves=8)
    other = make("sokoban", 200, sticky=0.5, min_moves=8)
    for boards in (batch, other):
        boards.reset(seeds(200))
    word = np.random.default_rng(2).integers(0, 4, (4, 200, 1)).astype(np.int32)
    for turn in range(4):
        before = batch.texts()
        batch.step(np.full((200, 1), -1, np.int32))
        assert batch.texts() == before
        batch.step(word[turn])
        other.step(word[turn])
        assert batch.texts() == other.texts()


def test_without_it_nothing_is_another_game():
    for config in ({}, {"controls": "broken", "show_moves": True}):
        one, two = make("sokoban", 100, **config), make("sokoban", 100, sticky=0, **config)
        for batch in (one, two):
            batch.reset(seeds(100))
            batch.step(np.full((100, 2), 1, np.int32))
        assert one.texts() == two.texts() and one.snapshot() == two.snapshot()


@pytest.mark.parametrize("show_moves", [False, True])
def test_snapshots_keep_the_luck(show_moves):
    count = 100
    config = {"controls": "permuted", "sticky": 0.5, "show_moves": show_moves, "min_moves": 8}
    batch = make("sokoban", count, **config)
    fresh = make("sokoban", count, **config)
    fresh.restart()
    fresh.restore(fresh.snapshot())  # of boards that were never reset
    batch.reset(seeds(count))
    batch.restart()
    batch.step(np.full((count, 2), 1, np.int32))
    data, words = batch.snapshot(), np.full((count, 6), 3, np.int32)
    fresh.restore(data)
    for boards in (batch, fresh):
        boards.step(words)
    assert batch.texts() == fresh.texts() and batch.snapshot() == fresh.snapshot() != data
    with pytest.raises(ValueError, match="fingerprint of its configuration"):
        make("sokoban", count, **config | {"sticky": 0.25}).restore(data)


@pytest.mark.parametrize("sticky", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_a_chance_is_below_one(sticky):
    with pytest.raises(ValueError, match="sticky must be a chance from 0 to below 1, got"):
        make("sokoban", 1, sticky=sticky)


@pytest.mark.parametrize("controls", ["plain", "permuted"])
def test_check_env_knows_of_luck(controls):
    env = text_env("sokoban", 5, split="train", moves_per_turn=1, controls=controls, sticky=0.5)
    assert env.luck and check_env(env) == []
    assert "25 % a move is not" in text_env("sokoban", 1, sticky=0.25).task_prompt()
    assert text_env("sokoban", 1, sticky=0.25, prompt="compact").task_prompt().endswith("right sticky 25%")
    assert not text_env("sokoban", 1).luck


def test_the_lab_refuses_luck():
    env = text_env("sokoban", 1, sticky=0.25, moves_per_turn=1, **SMALL)
    with pytest.raises(ValueError, match="a world of the lab has no luck"):
        lab.explore(env, 0, lambda env, view: ["<action>up</action>"])


def best(batch, turns, episodes):
    """[B]: the chance of a success within so many episodes, before the first move."""
    count = batch.num_envs
    left = np.full(count, turns, np.int32), np.full(count, episodes, np.int32)
    return batch.explore(np.tile(prior(batch.controls), (count, 1)), *left, max_turns=turns).max(axis=1)


def brute_force(text, turns, episodes, controls, sticky):
    """The same from its definition: no beliefs but the history's own chances, no table of states.

    A hypothesis is a rule and the move that was really made last, also where it changed nothing; each carries
    the chance of everything seen so far under it. All five words are tried.
    """
    board = Board(text)

    def wins(hypotheses, state, turns_left, episodes_left):
        if turns_left == 0:
            if episodes_left == 1:
                return 0.0
            again = Counter()
            for (rule, _), chance in hypotheses.items():
                again[rule, None] += chance
            return wins(again, board.start, turns, episodes_left - 1)
        best = 0.0
        for word in range(5):
            seen = {}
            for (rule, last), chance in hypotheses.items():
                asked = int(RULES[rule, word])
                ways = [(asked, 1.0)] if last is None else [(asked, 1 - sticky), (last, sticky)]
                for move, share in ways:
                    to = board.after(state, move)
                    seen.setdefault(to, Counter())[rule, move] += chance * share
            value = 0.0
            for to, left in seen.items():
                won = to[1] == board.targets
                value += sum(left.values()) if won else wins(left, to, turns_left - 1, episodes_left)
            best = max(best, value)
        return best

    rules = NUM_RULES[controls]
    return wins(Counter({(rule, None): 1 / rules for rule in range(rules)}), board.start, turns, episodes)


CASES = [("plain", 4, 1, 0.4), ("plain", 2, 2, 0.4), ("permuted", 3, 1, 0.25), ("permuted", 2, 2, 0.5)]


@pytest.mark.parametrize(("controls", "turns", "episodes", "sticky"), CASES)
def test_the_explorer_is_the_best_plan(controls, turns, episodes, sticky):
    batch = make("sokoban", 1, controls=controls, sticky=sticky, **SMALL)
    batch.reset(seeds(1))
    expected = [brute_force(text, turns, episodes, controls, sticky) for text in batch.texts()]
    np.testing.assert_allclose(best(batch, turns, episodes), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("controls", "turns", "episodes"), [("permuted", 4, 1), ("plain", 3, 2), ("broken", 3, 1)]
)
def test_the_explorer_is_the_best_plan_over_more(controls, turns, episodes):
    batch = make("sokoban", 2, controls=controls, sticky=0.3, **SMALL)
    batch.reset(seeds(2, 50))
    expected = [brute_force(text, turns, episodes, controls, 0.3) for text in batch.texts()]
    np.testing.assert_allclose(best(batch, turns, episodes), expected, rtol=0, atol=1e-12)


def test_luck_costs_the_best_player_something_and_rare_luck_little():
    values = []
    for sticky in (0.0, 1e-9, 0.1, 0.3, 0.6):
        batch = make("sokoban", 32, controls="permuted", sticky=sticky, **SMALL)
        batch.reset(seeds(32))
        values.append(best(batch, 3, 2).mean())
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    assert (np.diff(values[1:]) < -0.01).all()


@cache
def played(sticky, count=3000):
    """Whether the explorer won within two episodes of three turns, on boards of one level; and its bound."""
    level = "#####\n#@  #\n# $ #\n# . #\n#####"
    batch = make("sokoban", count, levels=[level], controls="permuted", sticky=sticky)
    batch.reset(seeds(count))
    beliefs, won, everyone = Beliefs(batch), np.zeros(count, bool), np.arange(count)
    for episode in range(2):
        batch.restart()
        for turn in range(3):
            boards = np.flatnonzero(~won)
            left = np.full(len(boards), 3 - turn, np.int32), np.full(len(boards), 2 - episode, np.int32)
            values = batch.explore(beliefs.repeats[boards], *left, max_turns=3, env_idx=boards)
            words = values[:, :4].argmax(axis=1).astype(np.int32)
            beliefs.look(boards)
            won[boards] = batch.step(words[:, None], None, boards).success
            beliefs.learn(boards, words)
            assert (beliefs.repeats[everyone, batch.rules()] < 10).all()  # the truth stays possible
    told = [fact for i in boards[:200].tolist() for fact in facts(beliefs.repeats[i], 4)]
    true = [
        fact
        for i in boards[:200].tolist()
        for fact in facts(np.where(np.arange(120) == batch.rules()[i], 0, 255), 4)
    ]
    assert told and not Counter(told) - Counter(true)
    return won, float(best(make_one(level, sticky), 3, 2)[0])


def make_one(level, sticky):
    batch = make("sokoban", 1, levels=[level], controls="permuted", sticky=sticky)
    batch.reset(seeds(1))
    return batch


def test_the_explorer_wins_as_often_as_it_says():
    won, bound = played(0.3)
    assert abs(won.mean() - bound) < 4 * (bound * (1 - bound) / len(won)) ** 0.5


def test_the_recipes_world_has_a_bound_and_a_teacher():
    """At the size of hidden-controls-tiny; the teachers know how likely a repeat is."""
    config = {"height": 6, "width": 5, "num_boxes": 1, "min_moves": 2, "max_moves": 3}
    options = entry("sokoban").options(
        **config, moves_per_turn=1, controls="permuted", sticky=0.25, prompt="compact", style="compact"
    )
    assert entry("sokoban").has_bound(options)
    bound = entry("sokoban").bound(options, "test", seeds(8), 3, 3)
    assert bound is not None and (np.diff(bound, axis=1) > 0).all()
    env = entry("sokoban").make(options, 300, "train")
    env.reset(seeds(300))
    expert = entry("sokoban").expert(env, [0.0], 1.0, 300, np.random.default_rng(0))
    won = np.zeros(300, bool)
    for _ in range(3):
        trials = np.flatnonzero(~won)
        env.restart(trials)
        for _ in range(3):
            trials = trials[~won[trials]]
            won[trials] = env.step(expert.play(trials)[0], trials).success
        expert.reflect(np.flatnonzero(~won))
    assert 0.3 < won.mean() < bound[:, -1].mean() + 0.1


def test_what_is_too_large_says_so():
    batch = make("sokoban", 1, controls="broken", sticky=0.5, num_boxes=1)
    batch.reset(seeds(1))
    repeats = np.tile(prior("broken"), (1, 1))
    repeats[0, 3] = 10
    with pytest.raises(_C.TooLarge, match=r"a rule would need 10 repeated moves .* goes to 9"):
        batch.explore(repeats, np.ones(1, np.int32), np.ones(1, np.int32), max_turns=1)
    sure = make("sokoban", 1, controls="broken")
    sure.reset(seeds(1))
    with pytest.raises(ValueError, match=r"repeats\[0, 3\] is 10, but no move is sticky"):
        sure.explore(repeats, np.ones(1, np.int32), np.ones(1, np.int32), max_turns=1)
