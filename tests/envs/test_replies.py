"""What counts of a reply: every order of up to six tags and moves, native and Python, against a walk."""

from itertools import product

import numpy as np
import pytest

from lamer_fast.agent.prompts import PROMPTS, action_text, reflection_text
from lamer_fast.envs import make
from lamer_fast.envs.replies import action, answer
from lamer_fast.envs.toy import NumberHunt

TAGS = ("<think>", "</think>", "<action>", "</action>")
MOVES = {" up ": 0, " left ": 2}
CELLS = {"(1, 2)": 1, "(3,3)": 14}


def content_of(pieces):
    """The pieces between the first opening and the last closing action tag behind the last </think>."""
    if "</think>" in pieces:
        pieces = pieces[len(pieces) - pieces[::-1].index("</think>") :]
    opening = [i for i, piece in enumerate(pieces) if piece == "<action>"]
    closing = [i for i, piece in enumerate(pieces) if piece == "</action>"]
    if not opening or not closing or closing[-1] < opening[0]:
        return None
    return pieces[opening[0] + 1 : closing[-1]]


def first(pieces, meanings):
    return next((meanings[piece] for piece in pieces if piece in meanings), -1)


@pytest.mark.parametrize(("name", "meanings"), [("sokoban", MOVES), ("minesweeper", CELLS)])
def test_every_order_of_tags_and_moves(name, meanings):
    batch = make(name, 1)
    orders = [pieces for n in range(7) for pieces in product((*TAGS, *meanings), repeat=n)]
    replies = ["".join(pieces) for pieces in orders]
    contents = [content_of(pieces) for pieces in orders]
    wanted = [first(content or (), meanings) for content in contents]
    actions, _, valid = batch.parse(replies, max_actions=1)
    wrong = np.flatnonzero(actions[:, 0] != wanted)
    assert not wrong.size, (replies[wrong[0]], actions[wrong[0]], wanted[wrong[0]])
    np.testing.assert_array_equal(valid, np.array(wanted) >= 0)
    assert [action(reply) for reply in replies] == [
        None if content is None else "".join(content) for content in contents
    ]
    strict_actions, _, strict_valid = batch.parse(replies, max_actions=1, strict=True)
    assert strict_valid.any() and not (strict_valid & ~valid).any()
    np.testing.assert_array_equal(strict_actions[strict_valid], actions[strict_valid])


def test_a_history_lists_what_the_environment_read():
    """The listed text, put back into tags, is read as the whole reply was."""
    batch = make("sokoban", 1)
    replies = ["".join(pieces) for n in range(6) for pieces in product((*TAGS, *MOVES, ","), repeat=n)]
    replies = [reply for reply in replies if action(reply) is not None]
    listed = [f"<action>{action_text(reply)}</action>" for reply in replies]
    for whole, quoted in zip(batch.parse(replies), batch.parse(listed), strict=True):
        np.testing.assert_array_equal(whole, quoted)
    assert action_text("<think>perhaps <action>up</action></think> I give up.") == "I give up."


def test_a_note_written_while_thinking_is_no_reflection():
    thought = "<think>I could say <remark>go left</remark></think>"
    assert reflection_text(thought, PROMPTS["full"], 99) == ("", False)
    assert reflection_text(thought + "<remark>go right</remark>", PROMPTS["full"], 99) == ("go right", True)
    assert reflection_text("hm, mines</think>mine at 2 3", PROMPTS["compact"], 99) == ("mine at 2 3", True)
    assert reflection_text("<think>all of it</think> \n", PROMPTS["compact"], 99) == ("", False)


def test_the_example_environment_reads_answers_only():
    env = NumberHunt(1)
    env.reset(np.zeros(1, np.uint64))
    env.step(["<think><action>7</action></think><action>9</action>"], np.arange(1))
    assert env.observe(np.arange(1))[0].startswith("9 is")
    assert answer("no thought") == "no thought" and answer("a</think>b</think>") == ""
