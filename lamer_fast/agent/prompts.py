"""Everything a trial says to the model beyond the game's own texts, in two lengths.

`full` is for pretrained chat models; `compact` spends as few tokens as possible, for small models. Rules and
the format of an action come from `env.task_prompt()`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lamer_fast.envs.replies import action, answer

REMARK = re.compile(r".*<remark>(.*?)</remark>", re.DOTALL)
MAX_ACTION_CHARS = 200  # of a reply without action tag, where a history lists it


@dataclass(frozen=True)
class Prompts:
    """Texts and templates for str.format. `{n}` counts attempts from 1, `{last}` is the attempt before it."""

    gap: str  # between blocks
    first: str  # {board}: the start state, after the task
    instruction: str  # ends a prompt that asks for an action
    attempt: str  # {n} {last} {board}: an attempt begins after a failed one
    past_reflection: str  # {n} {reflection}
    past_history: str  # {n} {history}
    current: str  # {history}: the turns of this attempt, the last of which ends in the present state
    failed: str  # {history}: the same, of an attempt that is over
    listed_turn: str  # {turn} {action} {board}
    elided_board: str
    actions: str  # {actions}: what can be done now, one a line
    reflect: str  # asks for a reflection, after the last board of a failed attempt
    tagged_reflection: bool  # the reflection stands in <remark></remark>; otherwise it is the whole reply


FULL = Prompts(
    gap="\n\n",
    first="This is the start state:\n{board}",
    instruction="Think about it step by step, then give your choice in the format described above.",
    attempt=(
        "Attempt {last} ended without success. Attempt {n} begins now, and everything is back in the start "
        "state. Use what you have learned so far.\n\n{board}"
    ),
    past_reflection="Attempt {n} was not successful. What you noted about it afterwards:\n{reflection}",
    past_history="Attempt {n} was not successful. This is what happened in it:\n{history}",
    current="Your turns in this attempt, the last one leading to the present state:\n{history}",
    failed="You played one attempt, the last turn leading to its final state:\n{history}",
    listed_turn="Turn {turn}: you chose {action}, which led to\n{board}",
    elided_board="(state not shown)",
    actions="You can do one of these now:\n{actions}",
    reflect=(
        "This attempt is over and the task was not solved. You will get the same task again, from the same "
        "start state. First look back: which decisions went wrong, what did the attempt reveal that you "
        "could not know before, and what will you do differently? Finish with a short note to yourself, a "
        "concrete plan for the next attempt, between <remark> and </remark>. Only this note is kept."
    ),
    tagged_reflection=True,
)

COMPACT = Prompts(
    gap="\n",
    first="{board}",
    instruction="",
    attempt="attempt {n}\n{board}",
    past_reflection="attempt {n} failed: {reflection}",
    past_history="attempt {n} failed:\n{history}",
    current="{history}",
    failed="{history}",
    listed_turn="{action}\n{board}",
    elided_board="-",
    actions="{actions}",
    reflect="reflect",
    tagged_reflection=False,
)

KEPT = "between <remark> and </remark>. Only this note is kept."
# by length, what may stand for `reflect`; "plan" is the text above
REFLECTIONS: dict[Literal["full", "compact"], dict[str, str]] = {
    "full": {
        "plan": FULL.reflect,
        "facts": (
            "This attempt is over and the task was not solved. You will get the same task again, from the "
            "same start state. Write down what you now know for certain about it: only what you have seen, "
            "no plan and no guess. Put it " + KEPT
        ),
        "short": "This attempt failed, and the same task comes again. Note what helps, in one sentence, "
        + KEPT,
    },
    "compact": {"plan": COMPACT.reflect, "facts": "what is known?", "short": "note"},
}

# what full prompts may ask for beside an action; "think" is the text above
PLAYS = {
    "think": FULL.instruction,
    "direct": "Reply with your choice in the format described above, and with nothing else.",
    "react": (
        'First write one line that begins with "Thought:" and says what you see and what follows from it. '
        "Then give your choice in the format described above."
    ),
}

PROMPTS: dict[Literal["full", "compact"], Prompts] = {"full": FULL, "compact": COMPACT}


def prompts_asking(length: Literal["full", "compact"], play: str, reflect: str) -> Prompts:
    """The prompts of a length; `play` and `reflect` are names of what they ask for, or one's own texts."""
    prompts = PROMPTS[length]
    instruction = PLAYS.get(play, play) if length == "full" else prompts.instruction
    return replace(prompts, instruction=instruction, reflect=REFLECTIONS[length].get(reflect, reflect))


def action_text(reply: str) -> str:
    """What a history lists of a reply: what the environment read in it, or the end of its answer."""
    content = action(reply)
    return answer(reply).strip()[-MAX_ACTION_CHARS:] if content is None else content.strip()


def reflection_text(reply: str, prompts: Prompts, max_chars: int) -> tuple[str, bool]:
    """(what later prompts quote, whether the reply held a reflection); empty if it held none."""
    reply = answer(reply)
    if prompts.tagged_reflection:
        match = REMARK.match(reply)
        text = match[1].strip() if match else ""
    else:
        text = reply.strip()
    return text[:max_chars], bool(text)


def turn_list(prompts: Prompts, turns: Sequence[tuple[str, str]], num_turns: int, num_boards: int) -> str:
    """The last `num_turns` of (action, board after it), the board shown only in the last `num_boards`."""
    first_listed = len(turns) - num_turns
    first_board = len(turns) - num_boards
    return "\n".join(
        prompts.listed_turn.format(
            turn=i + 1, action=action, board=board if i >= first_board else prompts.elided_board
        )
        for i, (action, board) in enumerate(turns)
        if i >= first_listed
    )
