"""TextArena's games: the same game again, replies that a game rejects, whose generator is whose."""

import random
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("textarena", reason="the package textarena is not installed")

from lamer_fast.envs.adapters import textarena as adapter
from lamer_fast.envs.adapters.textarena import Board, Options
from lamer_fast.envs.check import check_env
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import default_options, make_env

MASTERMIND = replace(default_options("textarena"), workers=2)
SLIDE = replace(MASTERMIND, game="2048-v0")
GUESS = Options(game="GuessTheNumber-v0")
MOVES = {
    MASTERMIND.game: ["1 2 3 4", "4 3 2 1", "5 6 1 2", "2 2 3 3"],
    SLIDE.game: ["up", "left", "down", "right"],
}


def act(text):
    return f"<action>{text}</action>"


def played(env, moves):
    """What two boards show and pay, stepped in turn."""
    boards = np.arange(2)
    story = [env.observe(boards)]
    for move in moves:
        out = env.step([act(move)] * 2, boards)
        story.append([out.rewards.tolist(), out.done.tolist(), out.valid.tolist(), env.observe(boards)])
    return story


@pytest.mark.parametrize("options", [MASTERMIND, SLIDE])
def test_a_restart_is_the_same_game_from_any_state(options):
    moves = MOVES[options.game] * 4
    env = make_env(options, 2, split=None)
    env.reset(np.array([3, 2**64 - 1], np.uint64))
    first, tasks = played(env, moves), env.tasks(np.arange(2)).tolist()
    assert len(set(tasks)) == 2 and len({str(turn) for turn in first}) > 4
    for turns in (0, 1, 5):
        env.restart(np.arange(2))
        played(env, moves[::-1][:turns])
        env.restart(np.arange(2))
        assert played(env, moves) == first and env.tasks(np.arange(2)).tolist() == tasks
    again = make_env(options, 2, split=None)
    again.reset(np.array([3, 2**64 - 1], np.uint64))
    assert played(again, moves) == first


def test_a_board_is_not_changed_by_those_beside_it():
    """They all draw from the generator of `random`."""
    alone, beside = make_env(SLIDE, 1, split=None), make_env(replace(SLIDE, workers=1), 3, split=None)
    for env in (alone, beside):
        env.reset(np.arange(env.num_envs, dtype=np.uint64))
    for move in MOVES[SLIDE.game] * 5:
        alone.step([act(move)], np.array([0]))
        for board in (2, 0, 1):
            beside.step([act(move)], np.array([board]))
        assert alone.observe(np.array([0])) == beside.observe(np.array([0]))


def test_what_a_game_rejects_is_undone():
    board = Board(GUESS)
    random.seed(1)
    board.reset(4)
    assert board.step(act("[7]")).valid
    text, drawn = board.observe(), random.getstate()
    for reply in (
        "7",
        act("7"),
        act("99"),
        act("seven"),
        act("[7] [5"),
        act(""),
        act("1\x00"),
        act("9" * 300),
    ):
        turn = board.step(reply)
        assert (turn.valid, turn.done, turn.reward) == (False, False, 0.0), reply
        assert board.observe() == text and random.getstate() == drawn
    assert board.step(act("8")).valid, "and two in a row end nothing"


def test_success_is_a_declared_reward():
    board = Board(replace(GUESS, rewards="success"))
    board.reset(4)
    number = board.game.game_number
    turn = board.step(act(f"[{number}]"))
    assert turn.done and turn.success and turn.reward == 10.0 and not turn.truncated
    board.restart()
    turns = [board.step(act(guess)) for guess in [n for n in range(1, 21) if n != number][:12]]
    last = turns[board.game.max_turns]  # it allows one more
    assert last.done and last.truncated and not last.success and last.reward == 0.0
    hard = Board(replace(GUESS, success_reward=0.1))
    hard.reset(4)
    assert any(hard.step(act(n)).success for n in [n for n in range(1, 21) if n != number][:12])


def test_splits_share_no_game_and_panels_have_digests():
    tasks = []
    for split in SPLITS:
        env = make_env(MASTERMIND, 16, split=split)
        env.reset(np.arange(16, dtype=np.uint64))
        tasks += set(env.tasks(np.arange(16)).tolist())
    assert len(set(tasks)) == len(tasks) > 40
    assert panel(MASTERMIND, "test", 8).digest == panel(MASTERMIND, "test", 8).digest


@pytest.mark.parametrize("options", [MASTERMIND, SLIDE])
def test_it_keeps_the_protocol(options):
    replies = [act(move) for move in MOVES[options.game]]
    assert check_env(make_env(options, 4, split="train"), replies=replies) == []


@pytest.mark.parametrize(
    ("game", "message"),
    [
        ("Chess-v9", "TextArena has no such game; near it: Chess-v0"),
        ("TicTacToe-v0", "does not start for one player here: it wants more players"),
        ("QuantumTicTacToe-v0", "is a game for more than one player"),
        ("Debate-v0", "OpenRouter API key not found"),
    ],
)
def test_a_game_that_cannot_be_played_says_why(game, message):
    with pytest.raises(EnvError, match=message):
        make_env(replace(MASTERMIND, game=game), 2, split=None)


def test_one_game_has_no_held_out_ones():
    with pytest.raises(EnvError, match="showed 1 tasks: the environment has too few tasks"):
        for split in SPLITS:
            env = make_env(replace(MASTERMIND, game="TowerOfHanoi-v0"), 2, split=split)
            env.reset(np.arange(2, dtype=np.uint64))


@pytest.mark.slow
def test_every_game_that_starts_keeps_its_start():
    names = list(adapter.ENTRY.data(Options(), None))
    assert {"Mastermind-v0", "2048-v0", "Sudoku-v0", "LightsOut-v0"} <= set(names)
    for name in names:
        board = Board(Options(game=name))
        board.reset(5)
        first = board.observe(), board.task_text(), board.task()
        for move in ("[5]", "[up]", "[A1]", "[1 1]", "[A C]", "[draw]"):
            if board.step(act(move)).done:
                break
        board.restart()
        assert (board.observe(), board.task_text(), board.task()) == first
        board.reset(5)
        assert (board.observe(), board.task_text(), board.task()) == first, name
