"""reasoning-gym: the same question again, grades between answers, and graders that cannot be trusted."""

import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("reasoning_gym", reason="the package reasoning-gym is not installed")

from lamer_fast.envs.adapters.reasoning_gym import Board, Options, questions
from lamer_fast.envs.check import check_env
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import default_options, make_env

COUNTDOWN = replace(default_options("reasoning-gym"), workers=2, answers=3)


def act(text):
    return f"<action>{text}</action>"


def story(board, answers):
    shown = [board.observe()]
    for answer in answers:
        turn = board.step(act(answer))
        shown += [turn, board.observe()]
        if turn.done:
            break
    return shown


def test_a_restart_is_the_same_question_from_any_state():
    board = Board(COUNTDOWN)
    for seed in (3, 2**64 - 1):
        board.reset(seed)
        right = board.entry["answer"]
        for answers in (["1", "2 + 3", right], ["1"] * 3, [right]):
            board.restart()
            first = story(board, answers)
            for before in ([], ["1"], ["9", "8", "7"], [right]):
                board.restart()
                story(board, before)
                board.restart()
                assert story(board, answers) == first
            other = Board(COUNTDOWN)
            other.reset(seed)
            assert story(other, answers) == first and other.task() == board.task()


def test_answers_are_graded_and_counted():
    board = Board(COUNTDOWN)
    board.reset(1)
    assert board.step("42").valid is False and board.observe() == board.question
    turn = board.step(act("1 + 1"))
    assert not turn.done and 0 <= turn.reward < 1
    assert re.fullmatch(r"Not right: a score of 0\.\d\d, of 1\. Answers left: 2\.", board.observe())
    turn = board.step(act(board.entry["answer"]))
    assert turn.done and turn.success and turn.reward == 1.0 and board.observe() == "Right."
    last = Board(replace(COUNTDOWN, answers=1, rewards="success"))
    last.reset(1)
    turn = last.step(act("1 + 1"))
    assert turn.done and not turn.success and not turn.truncated and turn.reward == 0.0
    assert last.observe().endswith("of 1.")


def test_an_answer_may_have_lines():
    board = Board(Options(dataset="mini_sudoku"))
    board.reset(0)
    assert "\n" in board.entry["answer"] and board.step(act(board.entry["answer"])).success


def test_numbers_that_are_none_and_graders_that_accept_all_are_no_success():
    """The distance to nan passes for 0 in one grader; another gives every text the full score."""
    board = Board(Options(dataset="complex_arithmetic"))
    board.reset(0)
    assert board.data.score_answer("nan", board.entry) == 1.0, "what the package does"
    for text in ("nan", "NaN", " inf", "-Infinity", "1e999"):
        assert not board.step(act(text)).valid
    assert board.step(act(board.entry["answer"])).success
    with pytest.raises(ValueError, match="'game_of_life_halting' gives 'no answer at all' the full score"):
        Board(Options(dataset="game_of_life_halting"))


def test_a_grader_that_raises_loses_no_trial():
    board = Board(Options(dataset="boxnet"))
    board.reset(0)
    with pytest.raises(TypeError):
        board.data.score_answer("1", board.entry)
    turn = board.step(act("1"))
    assert not turn.valid and not turn.done and board.observe() == board.question


def test_a_question_is_a_function_of_its_seed_and_made_once():
    board = Board(COUNTDOWN)
    board.reset(7)
    item = board.entry
    board.restart()
    assert board.entry is item and questions("countdown", COUNTDOWN.size, "") is board.data
    larger = Board(replace(COUNTDOWN, size=2**31 - 1))
    larger.reset(7)
    assert larger.observe() == board.observe()


def test_splits_share_no_question_and_panels_have_digests():
    tasks = []
    for split in SPLITS:
        env = make_env(COUNTDOWN, 8, split=split)
        env.reset(np.arange(8, dtype=np.uint64))
        tasks += set(env.tasks(np.arange(8)).tolist())
    assert len(set(tasks)) == len(tasks) == 24
    assert len(panel(COUNTDOWN, "train", 8).digest) == 16


def test_it_keeps_the_protocol():
    env = make_env(COUNTDOWN, 4, split="train")
    assert check_env(env, replies=[act("1"), act("2 + 3"), act("7 * 8")]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "count"}, "env.dataset = 'count' cannot be made .* there are: .*countdown"),
        ({"dataset": "word_ladder"}, "of env.size = 1000000: .*Dataset size too large"),
        ({"config": '{"rows": 3}'}, "unexpected keyword argument 'rows'"),
        ({"config": '{"size": 3}'}, "must be a JSON object without size and seed"),
        ({"config": "[]"}, "must be a JSON object without size and seed"),
    ],
)
def test_wrong_options_are_told(changes, message):
    options = replace(COUNTDOWN, **changes)
    with pytest.raises((EnvError, ValueError), match=message):
        options.validate()
        make_env(options, 2, split=None).reset(np.arange(2, dtype=np.uint64))
