"""What a reader asks of a run first, looked up in its recorded trials: changed minds, blame, disagreement."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from lamer_fast.text import one_line

WORDS = re.compile(r"\w+")
TAGS = re.compile(r"<[^<>]*>")
Found = dict[str, Any]


def add_changes(trial: dict[str, Any]) -> list[Found]:
    """What the episode after each reflection did otherwise, put into the reflection's turn as `change`.

    The two episodes are compared while they show the same boards: `after` is the first reply that differs.
    """
    plays: dict[int, list[dict[str, Any]]] = {}
    for turn in trial["turns"]:
        if turn["phase"] == "play":
            plays.setdefault(turn["episode"], []).append(turn)
    found = []
    for note in (turn for turn in trial["turns"] if turn["phase"] == "reflect"):
        old, new = plays.get(note["episode"] - 1, []), plays.get(note["episode"], [])
        for before, after in zip(old, new, strict=False):
            if before.get("board") != after.get("board"):
                break
            if before["reply"] != after["reply"]:
                note["change"] = change = {
                    "episode": note["episode"],
                    "turn": after["turn"],
                    "before": before["reply"],
                    "after": after["reply"],
                    "named": names(note["reply"], before["reply"]),
                    "won": any(turn.get("success") for turn in new),
                }
                found.append(change | {"note": note["reply"]})
                break
    return found


def names(note: str, reply: str) -> bool:
    """Whether the note has the words of the action in their order, such as the numbers of its cell."""
    action = WORDS.findall(TAGS.sub(" ", reply).lower())[-4:]
    said = WORDS.findall(note.lower())
    n = len(action)
    return n > 0 and any(said[i : i + n] == action for i in range(len(said) - n + 1))


class Findings:
    """The most telling change, token and gap of the trials that were added."""

    def __init__(self) -> None:
        self.best: dict[str, tuple[tuple[float, ...], Found]] = {}
        self.trials = 0

    def add(self, trial: dict[str, Any]) -> None:
        self.trials += 1
        place: Found = {key: trial[key] for key in ("iteration", "group", "trial") if key in trial}
        for change in add_changes(trial):
            self._keep("changed", (change["named"], change["won"]), place, change)
        for index, turn in enumerate(trial["turns"]):
            at = place | {"index": index}
            for i, (blame, gap) in enumerate(token_values(turn)):
                if blame is not None and blame < 0:
                    self._keep("blamed", (-blame,), at, {"token": i, "value": blame}, turn)
                if gap:
                    self._keep("gap", (abs(gap),), at, {"token": i, "value": gap}, turn)

    def _keep(
        self, kind: str, score: tuple[float, ...], place: Found, more: Found, turn: Found | None = None
    ) -> None:
        if kind in self.best and score <= self.best[kind][0]:
            return
        if turn is not None:
            i = more["token"]
            more = more | {"text": turn["token_texts"][i], "logprob": turn["rollout_logprobs"][i]}
            more["advantage"] = turn.get("advantage")
        self.best[kind] = (score, place | {k: _short(v) for k, v in more.items()})

    def found(self) -> Found:
        return {kind: found for kind, (_, found) in self.best.items()} | {"searched": self.trials}


def _short(value: Any) -> Any:
    return one_line(value, 300) if isinstance(value, str) else value


def token_values(turn: dict[str, Any]) -> Iterable[tuple[float | None, float | None]]:
    """(advantage x (1 - probability), trainer's log-probability - sampler's) of each token, None if unknown.

    The first is how far the gradient of a plain policy loss pushes the token's own logit.
    """
    sampler = turn.get("rollout_logprobs") or []
    trainer = turn.get("trainer_logprobs") or [None] * len(sampler)
    advantage = turn.get("advantage")
    for ours, theirs in zip(trainer, sampler, strict=False):
        if theirs is None:
            yield None, None
            continue
        blame = None if advantage is None else advantage * -math.expm1(min(theirs, 0.0))
        yield blame, (None if ours is None else ours - theirs)


def learned(evaluations: list[dict[str, Any]]) -> Found | None:
    """The first evaluation whose trials are above as many independent attempts, interval above interval.

    Returns:
        None without evaluations; else its record with `found` True, or that of the largest gain.
    """
    evaluations = [e for e in evaluations if e["success_at"] and e["independent"]]
    if not evaluations:
        return None
    for record in evaluations:
        low, high = record.get("success_low"), record.get("independent_high")
        if low and high and low[-1] > high[-1]:
            return record | {"found": True}
    most = max(evaluations, key=lambda e: e["success_at"][-1] - e["independent"][-1])
    return most | {"found": False}
