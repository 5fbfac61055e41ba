"""`lamer-fast play --me`: what is typed on standard input, turns taken back, hints, and who wins."""

import io

import numpy as np

from lamer_fast import cli
from lamer_fast.cli.play_yourself import Game, Result, of_episode, play
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import eval_seeds, make_env
from lamer_fast.envs.toy import NumberHunt

INDEX = np.zeros(1, np.int64)


def game(policy=None, *overrides):
    config = recipe.resolve("minesweeper-tiny", overrides)
    env = make_env(config.env, 1, split="test")
    return Game(env, config, eval_seeds(config.env, "test", 1), policy)


def board(made):
    return made.env.observe(INDEX)[0], made.env.call("anchors", INDEX).tolist()


def legal(made):
    return [
        reply.removeprefix("<action>").removesuffix("</action>") for reply in made.env.legal_actions(INDEX)[0]
    ]


def turn(episode, reply, phase="play"):
    return {"phase": phase, "episode": episode, "reply": reply}


WON_SECOND = {
    "success_by_episode": [False, True, False],
    "turns": [
        turn(0, "<action>a</action>"), turn(0, "note", "reflect"), turn(1, "<action>b</action>"),
        turn(1, "c"),
    ],
}  # fmt: skip


def test_undo_goes_back_turn_by_turn_and_over_the_start_of_an_episode(capsys):
    made = game()
    states = [board(made)]
    while made.episode == 0 and not made.over:  # until a mine
        made.take(legal(made)[0])
        states.append(board(made))
    assert made.episode == 1 and made.turn == 0
    for before in reversed(states[:-1]):
        made.take(":undo")
        assert board(made) == before
    assert (made.episode, made.turn) == (0, 0) and made.used["undo"] == len(states) - 1
    made.take(":undo")
    assert "there is no turn to take back" in capsys.readouterr().out and made.used["undo"] == len(states) - 1


def test_hints_solve_the_board(capsys):
    made, tried = game(None, "--env.num-mines", "2"), 0
    while not made.over and tried < 30:
        before = board(made)
        made.take(":hint")
        assert board(made) == before, "a hint changes nothing"
        made.take(capsys.readouterr().out.rpartition("hint: ")[2].strip())
        tried += 1
    assert made.result.solved is not None and made.used["hint"] == tried
    assert f"({tried} hint" in made.verdict()


def test_a_turn_that_is_lost_is_told(capsys):
    made = game()
    told = {"(5, 5)": "(this changes nothing, and took a turn)", "x": "could not be read: it does nothing"}
    for typed, message in told.items():
        made.take(typed)
        assert message in capsys.readouterr().out
    assert made.turn == 2
    made.take(legal(made)[0])
    assert "took a turn" not in capsys.readouterr().out


def test_a_scripted_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.stdin", io.StringIO(":hint\n\nnonsense\n:u\n:nothing\n:undo\n:quit\nnever read\n")
    )
    assert cli.main(["play", "minesweeper-tiny", "--me"]) == 0
    out = capsys.readouterr().out
    assert "=== episode 1 of 3, up to " in out and "hint: " in out
    assert "could not be read" in out and ":nothing is none of :hint, :undo, :quit; it took no turn" in out
    assert "there is no turn to take back" in out, "the second undo: an empty line is no turn"
    assert out.endswith("you: not solved (1 undo, 1 hint)\n")


def test_the_end_of_the_input_leaves(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.main(["play", "minesweeper-tiny", "--me"]) == 0
    assert capsys.readouterr().out.endswith("you: not solved\n")


def test_the_policy_is_told_after_each_episode_and_the_earlier_one_wins(capsys):
    made = game(WON_SECOND, "--rollout.max-turns", "1")
    made.take("nonsense")
    out = capsys.readouterr().out
    assert "not solved within 1 turns" in out and "the policy: not solved with 1 turns: a\n" in out
    made.take("nonsense")
    assert "the policy: solved with 2 turns: b | c\n" in capsys.readouterr().out
    made.take("nonsense")
    assert made.over and "the policy did not need this episode" in capsys.readouterr().out
    assert made.verdict().splitlines()[1:] == ["policy: solved in episode 2 with 2 turns", "the policy wins"]
    made.result = Result((1, 9))
    assert made.verdict().endswith("you win")
    made.result = Result((2, 2))
    assert made.verdict().endswith("a draw")


def test_who_wins():
    none, late, early, short = Result(None), Result((3, 1)), Result((1, 9)), Result((1, 2))
    assert early.beats(late) and short.beats(early) and late.beats(none)
    assert not none.beats(none) and not late.beats(early)
    assert of_episode({"turns": [], "success_by_episode": [False]}, 0) == "the policy left"


def test_an_environment_without_snapshots_and_expert_says_so(capsys):
    class Bare:
        """The five calls alone."""

        def __init__(self):
            self.num_envs = 1
            hunt = NumberHunt(1)
            self.reset, self.restart, self.step = hunt.reset, hunt.restart, hunt.step
            self.observe, self.task_prompt = hunt.observe, hunt.task_prompt

    made = Game(Bare(), Config(), np.zeros(1, np.uint64))
    typed = iter([":undo", ":hint", "3", ":quit"])
    play(made, lambda prompt: next(typed))
    out = capsys.readouterr().out
    assert "keeps no snapshots" in out and "has no expert" in out and made.turn == 1
