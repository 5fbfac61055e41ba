"""What counts of a reply: the text after the reasoning, and its action tags. Python's half of `parse.h`."""

from __future__ import annotations

THOUGHT_ENDS = "</think>"
OPENS, CLOSES = "<action>", "</action>"


def answer(reply: str) -> str:
    """The reply behind its last `</think>`: what a model says while it thinks is not its answer."""
    return reply.rpartition(THOUGHT_ENDS)[2]


def action(reply: str) -> str | None:
    """The text between the first `<action>` and the last `</action>` of the answer; None without them."""
    _, opened, rest = answer(reply).partition(OPENS)
    content, closed, _ = rest.rpartition(CLOSES)
    return content if opened and closed else None
