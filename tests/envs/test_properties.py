"""Invariants under random action streams: subsets, restart, snapshots, masks, anchors, rewards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamer_fast.envs import make, text_env

CONFIGS = [
    ("sokoban", {"num_boxes": 1}),
    ("sokoban", {"track_dead": True, "end_on_dead": True}),
    ("sokoban", {"stop_at_done": False, "turn_reward": "last"}),
    ("minesweeper", {}),
    ("minesweeper", {"height": 9, "width": 5, "num_mines": 8, "first_click": "agent"}),
]
E = 6
games = st.sampled_from(CONFIGS)
turns = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2**32 - 1)), min_size=1, max_size=12)


def start(name, config, seed):
    batch = make(name, E, **config)
    batch.reset(np.arange(E, dtype=np.uint64) + np.uint64(seed))
    return batch


def actions_of(batch, turn):
    k, seed = turn
    return np.random.default_rng(seed).integers(-1, batch.num_actions, (E, k), dtype=np.int32)


def state(batch):
    flags = np.stack(batch.flags()).T.tolist()
    return list(zip(batch.texts(), batch.anchors().tolist(), batch.tasks().tolist(), flags, strict=True))


@given(games, st.integers(0, 2**32), turns)
@settings(max_examples=40, deadline=None)
def test_restore_and_replay_are_identical(game, seed, stream):
    batch = start(*game, seed)
    cut = len(stream) // 2
    for turn in stream[:cut]:
        batch.step(actions_of(batch, turn))
    data, before = batch.snapshot(), state(batch)
    outs = [batch.step(actions_of(batch, turn)) for turn in stream[cut:]]
    after = state(batch)
    other = make(game[0], E, **game[1])
    for target in (batch, other):
        target.restore(data)
        assert state(target) == before and target.snapshot() == data
        for turn, out in zip(stream[cut:], outs, strict=True):
            for a, b in zip(target.step(actions_of(target, turn)), out, strict=True):
                np.testing.assert_array_equal(a, b)
        assert state(target) == after


@given(games, st.integers(0, 2**32), turns, st.permutations(range(E)), st.integers(1, E))
@settings(max_examples=40, deadline=None)
def test_named_boards_only_and_in_order(game, seed, stream, order, size):
    """Playing some boards, in any order, is playing them in a batch of all; the others stay."""
    named = np.array(order[:size])
    others = np.array(order[size:], np.int64)
    part, whole = start(*game, seed), start(*game, seed)
    untouched = state(part)
    for turn in stream:
        actions = actions_of(part, turn)
        mine, all_of_them = part.step(actions[named].copy(), env_idx=named), whole.step(actions)
        for a, b in zip(mine, all_of_them, strict=True):
            np.testing.assert_array_equal(a, b[named])
    assert [state(part)[i] for i in named] == [state(whole)[i] for i in named]
    assert [state(part)[i] for i in others] == [untouched[i] for i in others]
    assert part.texts(named) == [whole.texts()[i] for i in named]
    single = make(game[0], 1, **game[1])
    single.restore(part.snapshot(named[:1]))
    assert single.texts() == part.texts(named[:1])


@given(games, st.integers(0, 2**32), turns)
@settings(max_examples=40, deadline=None)
def test_done_is_absorbing_and_restart_gives_the_start(game, seed, stream):
    batch = start(*game, seed)
    first, tasks = state(batch), batch.tasks()
    done = np.zeros(E, bool)
    for turn in stream * 3:
        before = batch.texts()
        out = batch.step(actions_of(batch, turn))
        assert out.done[done].all() and not out.rewards[done].any() and not out.executed[done].any()
        assert [a == b for a, b, d in zip(before, batch.texts(), done, strict=True) if d].count(False) == 0
        assert (out.executed <= turn[0]).all()
        np.testing.assert_array_equal(np.stack(batch.flags()), np.stack([out.done, out.success, out.dead]))
        done |= out.done
    np.testing.assert_array_equal(batch.tasks(), tasks)
    batch.restart()
    assert state(batch) == first


@given(games, st.integers(0, 2**32), turns)
@settings(max_examples=40, deadline=None)
def test_rewards_add_up_and_masks_tell_the_truth(game, seed, stream):
    name, config = game
    batch = start(name, config, seed)
    for turn in stream:
        mask, before, anchors = batch.legal_actions(), batch.texts(), batch.anchors()
        done = batch.flags()[0]
        assert (mask.any(axis=1) == ~done).all()
        actions = actions_of(batch, turn)
        out = batch.step(actions[:, :1].copy())
        for i in range(E):
            action, changed = actions[i, 0], before[i] != batch.texts()[i]
            assert changed == (batch.anchors()[i] != anchors[i])
            if action == 4 and name == "sokoban":
                assert not changed
            elif not done[i]:
                assert changed == (action >= 0 and mask[i, action])
        out = batch.step(actions)
        if config.get("turn_reward") != "last":
            sums = out.rewards_per_action.astype(np.float64).sum(axis=1)
            np.testing.assert_allclose(out.rewards, sums, atol=1e-5)


@given(st.lists(st.text(max_size=60), min_size=3, max_size=3), st.booleans())
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("name", ["sokoban", "minesweeper"])
def test_any_text_parses(name, replies, wrap):
    if wrap:
        replies = [f"thinking <action>{reply}</action>" for reply in replies]
    batch = make(name, 3)
    for strict in (False, True):
        actions, lengths, valid = batch.parse(replies, max_actions=4, strict=strict)
        assert actions.shape == (3, 4) and ((lengths >= 1) & (lengths <= 4)).all()
        assert ((actions >= -1) & (actions < batch.num_actions)).all()
        assert (actions[~valid, 0] == -1).all() and (lengths[~valid] == 1).all()


@given(st.text(alphabet="<action>/upleft,rigdown \u221a(12)3", max_size=80))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("name", ["sokoban", "minesweeper"])
def test_strict_is_a_part_of_lenient(name, reply):
    batch = make(name, 1)
    strict, lenient = (batch.parse([f"<action>{reply}</action>"], strict=s) for s in (True, False))
    if strict[2][0]:
        assert lenient[2][0]
        np.testing.assert_array_equal(strict[0], lenient[0])


@given(games, st.integers(0, 2**32), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_legal_replies_are_what_the_mask_says(game, seed, choice):
    name, config = game
    env = text_env(name, E, **config)
    boards = np.arange(E)
    env.reset(np.arange(E, dtype=np.uint64) + np.uint64(seed))
    lists, mask = env.legal_actions(boards), env.batch.legal_actions()
    for i, replies in enumerate(lists):
        assert len(replies) == mask[i].sum()
        actions, lengths, valid = env.batch.parse(replies)
        assert valid.all() and (lengths == 1).all()
        np.testing.assert_array_equal(actions[:, 0], np.flatnonzero(mask[i]))
