"""What the worlds of TextArena and reasoning-gym do, by stand-ins with the habits of those packages."""

import random
import sys

import pytest

from lamer_fast.envs.adapters import reasoning_gym, textarena
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.registry import WORLDS, default_options, make_env
from tests import stand_ins


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "textarena", stand_ins.textarena())
    monkeypatch.setitem(sys.modules, "reasoning_gym", stand_ins.reasoning_gym())
    reasoning_gym.questions.cache_clear()
    yield
    reasoning_gym.questions.cache_clear()


def act(text):
    return f"<action>{text}</action>"


def game(**options):
    board = textarena.Board(textarena.Options(game="OddOrEven-v0", **options))
    board.reset(3)
    return board


def test_a_rejected_move_is_undone_and_ends_nothing(capsys):
    board = game()
    assert board.observe() == textarena.FIRST and board.task_text().startswith("Is the number odd?")
    assert board.step(act("wait")).valid
    text, drawn = board.observe(), random.getstate()
    for reply in ("odd", act("perhaps"), act("perhaps"), act(""), act("a\0b"), act("odd" * 100)):
        turn = board.step(reply)
        assert (turn.valid, turn.done, turn.reward) == (False, False, 0.0)
        assert board.observe() == text and random.getstate() == drawn
    assert board.step(act("[wait]")).valid and capsys.readouterr().out == ""


def test_a_game_starts_again_as_it_was_drawn():
    board = game()
    random.seed(1)
    start = random.getstate()
    first = [(board.step(act("wait")), board.observe()) for _ in range(4)]
    assert first[-1][0].truncated and first[-1][0].reward == 0.5 and "Too slow." in first[-1][1]
    for moves in ([], ["wait"], ["odd"]):
        board.restart()
        for move in moves:
            board.step(act(move))
        board.restart()
        random.setstate(start)
        assert [(board.step(act("wait")), board.observe()) for _ in range(4)] == first


def test_success_is_the_declared_reward():
    for rewards, least, wins in (("own", 1.0, 1.0), ("success", 1.0, 10.0), ("success", 0.0, 10.0)):
        board = game(rewards=rewards, success_reward=least)
        odd = board.game.state.game_state["number"] % 2 == 1
        turn = board.step(act("odd" if odd else "even"))
        assert (turn.reward, turn.success, turn.done) == (wins, True, True)
        board.restart()
        turn = board.step(act("even" if odd else "odd"))
        assert turn.done and turn.success == (least == 0.0) and not turn.truncated


def test_tasks_are_what_is_hidden():
    board, tasks = game(), {}
    for seed in range(60):
        board.reset(seed)
        tasks[seed] = board.task(), board.game.state.game_state["number"]
    assert len({task for task, _ in tasks.values()}) == len({number for _, number in tasks.values()}) > 40


def test_games_that_cannot_be_played_are_refused():
    for name, message in (
        ("Chess-v0", "no such game; near it: none"),
        ("ForTwo-v0", "it wants more players"),
    ):
        with pytest.raises(ValueError, match=message):
            textarena.Board(textarena.Options(game=name))


def sums(**options):
    board = reasoning_gym.Board(reasoning_gym.Options(dataset="sums", **options))
    board.reset(7)
    return board


def test_a_question_comes_again_with_a_grade_between():
    board = sums(answers=3)
    shown = []
    for _ in range(2):
        board.restart()
        turns = [board.step(act(answer)) for answer in ("10", "99", "8")]
        shown.append([board.question, *((turn.reward, turn.done, turn.success) for turn in turns)])
    assert shown[0] == shown[1] == ["7 + 1 =", (0.5, False, False), (0.0, False, False), (1.0, True, True)]
    assert board.data.made == 2, "the one that is looked at first, and the question"
    board.restart()
    board.step(act("10"))
    assert board.observe() == "Not right: a score of 0.50, of 1. Answers left: 2."


def test_graders_are_not_trusted():
    board = sums()
    for text in ("nan", "inf", "eight", ""):
        turn = board.step(act(text))
        assert not turn.valid and not turn.done and board.observe() == board.question
    assert board.step(act("99")).done
    with pytest.raises(ValueError, match="'all_right' gives 'no answer at all' the full score"):
        reasoning_gym.Board(reasoning_gym.Options(dataset="all_right"))
    with pytest.raises(ValueError, match=r"'products' cannot be made .* there are: all_right, sums"):
        reasoning_gym.Board(reasoning_gym.Options(dataset="products"))


@pytest.mark.parametrize("name", ["textarena", "textworld", "reasoning-gym", "gymnasium"])
def test_a_package_that_is_missing_is_told_with_what_installs_it(name, monkeypatch, tmp_path):
    assert name in WORLDS
    monkeypatch.setattr("lamer_fast.envs.adapters.world.find_spec", lambda package: None)
    if name == "textworld":
        monkeypatch.setattr("lamer_fast.envs.adapters.textworld.of_split", lambda options, split: [])
    extra = "gym" if name == "gymnasium" else name
    with pytest.raises(EnvError, match=rf"env.name = '{name}' needs .* pip install 'lamer-fast\[{extra}\]'"):
        make_env(default_options(name), 2, split=None)
