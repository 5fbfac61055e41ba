"""Sokoban under controls that must be found out: rules, splits, what is told, the best explorer."""

from functools import cache

import numpy as np
import pytest

from lamer_fast import _C
from lamer_fast.envs import check_env, make, text_env
from lamer_fast.envs.native.controls import IMPOSSIBLE, NUM_RULES, RULES, Beliefs, facts, prior
from lamer_fast.envs.registry import entry
from tests.envs.sokoban_rules import MOVES, parse

SMALL = {"height": 5, "width": 5, "num_boxes": 1, "min_moves": 2, "max_moves": 3}


def seeds(count, first=0):
    return np.arange(first, first + count, dtype=np.uint64)


def test_rules_are_the_permutations():
    assert len({tuple(rule) for rule in RULES.tolist()}) == len(RULES) == NUM_RULES["broken"]
    assert (np.sort(RULES, axis=1) == np.arange(5)).all()
    assert RULES[0].tolist() == [0, 1, 2, 3, 4]
    assert (RULES[: NUM_RULES["permuted"], 4] == 4).all() and (RULES[NUM_RULES["permuted"] :, 4] != 4).all()


@pytest.mark.parametrize("controls", ["permuted", "broken"])
def test_check_env_finds_nothing(controls):
    env = text_env("sokoban", 5, split="train", moves_per_turn=1, controls=controls)
    assert check_env(env) == []


def test_a_line_says_what_the_last_word_did():
    level = "######\n#@  $.#\n######"
    batch = make("sokoban", 600, levels=[level], controls="broken", show_moves=True)
    plain = make("sokoban", 600, levels=[level])
    batch.reset(seeds(600))
    plain.reset(seeds(600))
    first = batch.texts()
    assert first == plain.texts()
    words = np.arange(600, dtype=np.int32) % 6 - 1
    batch.step(words[:, None])
    for board, text, word, rule in zip(first, batch.texts(), words.tolist(), batch.rules(), strict=True):
        right = word >= 0 and RULES[rule, word] == 3
        grid = board.replace("P_", "_P") if right else board
        said = f"\n{('up', 'down', 'left', 'right', 'still')[word]}: {'right' if right else 'nothing'}"
        assert text == (grid if word < 0 else grid + said)
    batch.restart()
    assert batch.texts() == first


def test_nothing_that_is_seen_first_tells_the_rule():
    batch = make("sokoban", 500, controls="permuted", **SMALL)
    plain = make("sokoban", 500, **SMALL)
    batch.reset(seeds(500))
    plain.reset(seeds(500))
    assert batch.texts() == plain.texts() and (batch.anchors() == plain.anchors()).all()
    assert batch.legal_actions().all()
    assert (np.bincount(batch.rules(), minlength=24) > 5).all()  # of 21 expected


def test_the_rule_belongs_to_the_task():
    """Trials of a group play boards of one seed; the rule stays over restarts and snapshots."""
    batch = make("sokoban", 6, controls="permuted", **SMALL)
    batch.reset(np.repeat(seeds(2, 5), 3))
    rules, tasks = batch.rules(), batch.tasks()
    assert len(set(rules[:3].tolist())) == len(set(tasks[:3].tolist())) == 1
    data = batch.snapshot()
    batch.step(np.full((6, 1), 0, np.int32))
    batch.restart()
    assert (batch.rules() == rules).all() and (batch.tasks() == tasks).all()
    batch.reset(seeds(6, 100))
    batch.restore(data)
    assert (batch.rules() == rules).all() and batch.snapshot() == data


@pytest.mark.parametrize("controls", ["permuted", "broken"])
def test_held_out_rules_and_boards(controls):
    found = {}
    for split in ("train", "valid", "test"):
        batch = make("sokoban", 800, split=split, controls=controls, held_out_rules=True, num_boxes=1)
        batch.reset(seeds(800))
        assert {_C.split_of(task) for task in batch.tasks().tolist()} == {split}
        plain = make("sokoban", 800, split=split, num_boxes=1)
        plain.reset(seeds(800))
        found[split] = set(batch.rules().tolist()), set(plain.tasks().tolist())
    for a, b in [("train", "valid"), ("train", "test"), ("valid", "test")]:
        assert not found[a][0] & found[b][0] and not found[a][1] & found[b][1]
    sizes = [len(found[split][0]) for split in found]
    assert sizes == [NUM_RULES[controls] * share // 6 for share in (4, 1, 1)]


def test_tasks_of_levels_are_counted():
    levels = ["#######\n#@ $. #\n#  $. #\n#######", "######\n#@$. #\n######"]
    for held_out in (False, True):
        counts = [
            make(
                "sokoban", 1, split=s, levels=levels, controls="permuted", held_out_rules=held_out
            ).num_tasks()
            for s in (None, "train", "valid", "test")
        ]
        assert all(exact for _, exact in counts)
        assert sum(count for count, _ in counts[1:]) == counts[0][0]
        assert held_out or counts[0][0] == 2 * 24


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"controls": "other"}, "'plain', 'permuted' or 'broken', got 'other'"),
        ({"held_out_rules": True}, "held_out_rules is True, but controls is 'plain'"),
    ],
)
def test_wrong_options(config, words):
    with pytest.raises(ValueError, match=words):
        make("sokoban", 1, **config)


def best(batch, turns, episodes, controls):
    """[B]: the chance of a success within so many episodes, before the first move."""
    count = batch.num_envs
    left = np.full(count, turns, np.int32), np.full(count, episodes, np.int32)
    return batch.explore(np.tile(prior(controls), (count, 1)), *left, max_turns=turns).max(axis=1)


def brute_force(text, turns, episodes, controls):
    """The same from its definition, with rules and boards in Python: no beliefs, no table of states.

    A plan maps what was said and seen to the next word. The number of rules under which the best plan wins is
    found by trying every plan, history by history, on all rules that agree with the history.
    """
    rows, player, boxes, targets = parse(text)
    cells, width = "".join(rows), len(rows[0])
    words = 5 if controls == "broken" else 4

    def after(state, move):
        player, boxes = state
        if move == 4:
            return state
        step = MOVES[move][0] * width + MOVES[move][1]
        to, beyond = player + step, player + 2 * step
        if cells[to] == "#":
            return state
        if to in boxes:
            if cells[beyond] == "#" or beyond in boxes:
                return state
            boxes = (boxes - {to}) | {beyond}
        return to, boxes

    start = (player, boxes)

    def wins(state, rules, turns_left, episodes_left):
        if turns_left == 0:
            return wins(start, rules, turns, episodes_left - 1) if episodes_left > 1 else 0
        best = 0
        for word in range(words):
            seen = {}
            for rule in rules:
                seen.setdefault(after(state, int(RULES[rule, word])), []).append(rule)
            best = max(
                best,
                sum(
                    len(left) if to[1] == targets else wins(to, left, turns_left - 1, episodes_left)
                    for to, left in seen.items()
                ),
            )
        return best

    every = list(range(NUM_RULES[controls]))
    return wins(start, every, turns, episodes) / len(every)


@pytest.mark.parametrize(
    ("controls", "turns", "episodes"),
    [("permuted", 2, 1), ("permuted", 3, 1), ("permuted", 2, 2), ("broken", 2, 1), ("broken", 3, 1)],
)
def test_the_explorer_is_the_best_plan(controls, turns, episodes):
    batch = make("sokoban", 6, controls=controls, **SMALL)
    batch.reset(seeds(6))
    expected = [brute_force(text, turns, episodes, controls) for text in batch.texts()]
    np.testing.assert_allclose(best(batch, turns, episodes, controls), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("controls", "turns", "episodes"),
    [("permuted", 3, 2), ("permuted", 2, 3), ("permuted", 5, 1), ("broken", 2, 2)],
)
def test_the_explorer_is_the_best_plan_over_more_episodes(controls, turns, episodes):
    batch = make("sokoban", 8, controls=controls, **SMALL)
    batch.reset(seeds(8, 50))
    expected = [brute_force(text, turns, episodes, controls) for text in batch.texts()]
    np.testing.assert_allclose(best(batch, turns, episodes, controls), expected, rtol=0, atol=1e-12)


def test_the_explorer_wins_as_often_as_it_says():
    """Played out on each of the 24 rules of a level."""
    turns, episodes = 3, 2
    level = "#####\n#@  #\n# $ #\n# . #\n#####"
    batch = make("sokoban", 2000, levels=[level], controls="permuted")
    batch.reset(seeds(2000))
    first = [int(np.flatnonzero(batch.rules() == rule)[0]) for rule in range(24)]
    batch = make("sokoban", 24, levels=[level], controls="permuted")
    batch.reset(np.array(first, np.uint64))
    assert sorted(batch.rules().tolist()) == list(range(24))
    expected = best(batch, turns, episodes, "permuted")[0]
    beliefs = Beliefs(batch)
    won = np.zeros(24, bool)
    for episode in range(episodes):
        batch.restart()
        for turn in range(turns):
            boards = np.flatnonzero(~(won | batch.flags()[1]))
            left = (
                np.full(len(boards), turns - turn, np.int32),
                np.full(len(boards), episodes - episode, np.int32),
            )
            values = batch.explore(beliefs.repeats[boards], *left, max_turns=turns, env_idx=boards)
            words = values[:, :4].argmax(axis=1).astype(np.int32)
            beliefs.look(boards)
            won[boards] = batch.step(words[:, None], None, boards).success
            beliefs.learn(boards, words)
            assert (beliefs.repeats[np.arange(24), batch.rules()] == 0).all()  # the truth stays possible
    assert won.mean() == pytest.approx(expected)


@cache
def teachers(noise, memory):
    """success@1..3 of a warm start's experts on 400 boards, and the notes of the second episode."""
    options = entry("sokoban").options(
        **SMALL, moves_per_turn=1, controls="permuted", prompt="compact", style="compact"
    )
    env = entry("sokoban").make(options, 400, "train")
    env.reset(seeds(400))
    expert = entry("sokoban").expert(env, [noise], memory, 400, np.random.default_rng(0))
    won, notes = np.zeros((400, 3), bool), {}
    for episode in range(3):
        boards = np.flatnonzero(~won.any(axis=1))
        env.restart(boards)
        for _ in range(3):
            boards = boards[~won[boards, episode]]
            won[boards, episode] = env.step(expert.play(boards)[0], boards).success
        notes[episode] = dict(zip(boards.tolist(), expert.reflect(boards), strict=True))
    return np.logical_or.accumulate(won, axis=1).mean(axis=0), notes, env.batch.rules()


def test_a_teacher_with_a_memory_learns_and_one_without_does_not():
    remembers, forgets = teachers(0.0, 1.0)[0], teachers(0.0, 0.0)[0]
    assert remembers[2] > 0.95 and forgets[2] < 0.5
    batch = make("sokoban", 400, split="train", controls="permuted", **SMALL)
    batch.reset(seeds(400))
    for k in (1, 2, 3):  # a noiseless teacher stays below the bound, but for the draw of its choices
        assert remembers[k - 1] < best(batch, 3, k, "permuted").mean() + 0.03


def test_notes_are_true():
    _, notes, rules = teachers(0.25, 0.6)
    told = [(board, note) for of_episode in notes.values() for board, note in of_episode.items()]
    assert len(told) > 300
    for board, note in told:
        truth = np.where(np.arange(120) == rules[board], 0, IMPOSSIBLE)
        for fact in note.split(", "):
            assert fact == "nothing" or fact in facts(truth, 4)
