"""What a reader asks of a run first, looked up in its recorded trials: changed minds, blame, disagreement."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from lamer_fast.envs.replies import action
from lamer_fast.run.record import Record
from lamer_fast.text import one_line

IN_A_ROW = 10  # iterations: by chance alone all of them are above the attempts once in a thousand times
WORDS = re.compile(r"\w+")
TAGS = re.compile(r"<[^<>]*>")
Found = dict[str, Any]


def add_changes(trial: dict[str, Any]) -> list[Found]:
    """What the episode after each reflection did otherwise, put into the reflection's turn as `change`.

    The two episodes are compared while they show the same boards: `after` is the first action that differs.
    What a model thinks before its action may differ each time.
    """
    plays, found = plays_of(trial), []
    for note in (turn for turn in trial["turns"] if turn["phase"] == "reflect"):
        old, new = plays.get(note["episode"] - 1, []), plays.get(note["episode"], [])
        for before, after in zip(old, new, strict=False):
            if before.get("board") != after.get("board"):
                break
            given_up, chosen = answered(before["reply"]), answered(after["reply"])
            if given_up != chosen:
                note["change"] = change = {
                    "episode": note["episode"],
                    "turn": after["turn"],
                    "before": given_up,
                    "after": chosen,
                    "names_before": names(note["reply"], given_up),
                    "names_after": names(note["reply"], chosen),
                    "valid": all(turn.get("valid", True) for turn in (before, after)),
                    "won": any(turn.get("success") for turn in new),
                }
                found.append(change | {"note": note["reply"]})
                break
    return found


def plays_of(trial: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """Episode -> its turns."""
    plays: dict[int, list[dict[str, Any]]] = {}
    for turn in trial["turns"]:
        if turn["phase"] == "play":
            plays.setdefault(turn["episode"], []).append(turn)
    return plays


def repeats(lost: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool | None:
    """Whether an episode repeats the last action of a lost one; None if it never stands on that board."""
    for turn in other:
        if turn["board"] == lost[-1]["board"]:
            return answered(turn["reply"]) == answered(lost[-1]["reply"])
    return None


def answered(reply: str) -> str:
    """The action in a reply, or all of it where none is marked."""
    marked = action(reply)
    return reply if marked is None else marked.strip()


def names(note: str, reply: str) -> bool:
    """Whether the note has the words of the action in their order, such as the numbers of its cell."""
    wanted = WORDS.findall(TAGS.sub(" ", reply).lower())[-4:]
    said = WORDS.findall(note.lower())
    n = len(wanted)
    return n > 0 and any(said[i : i + n] == wanted for i in range(len(said) - n + 1))


class Findings:
    """The most telling change, token and gap of the trials that were added."""

    def __init__(self) -> None:
        self.best: dict[str, tuple[tuple[float, ...], Found]] = {}
        self.trials = self.notes = 0
        # [not repeated, repeated]: the last action of a lost episode, by the one after its note and by the
        # first episode of the next trial of the group, which knows of neither
        self.noted, self.unknowing = [0, 0], [0, 0]
        self.first: tuple[Any, list[dict[str, Any]]] = (None, [])  # group, turns of the trial before

    def add(self, trial: dict[str, Any]) -> None:
        self.trials += 1
        place: Found = {key: trial[key] for key in ("iteration", "group", "trial") if key in trial}
        self.notes += sum(turn["phase"] == "reflect" for turn in trial["turns"])
        self._count_repeats(trial)
        for change in add_changes(trial):
            named = change["names_before"], change["names_after"]
            evidence = {(True, False): 3, (False, True): 2, (True, True): 1, (False, False): 0}[named]
            self._keep("changed", (change["valid"], evidence, change["won"]), place, change)
        for index, turn in enumerate(trial["turns"]):
            at = place | {"index": index}
            for i, (blame, gap) in enumerate(token_values(turn)):
                if blame is not None and blame < 0:
                    self._keep("blamed", (-blame,), at, {"token": i, "value": blame}, turn)
                if gap:
                    self._keep("gap", (abs(gap),), at, {"token": i, "value": gap}, turn)

    def _count_repeats(self, trial: dict[str, Any]) -> None:
        plays, group = plays_of(trial), [trial.get(key) for key in ("iteration", "panel", "group")]
        pairs = [
            (self.noted, plays.get(note["episode"] - 1), plays.get(note["episode"]))
            for note in trial["turns"]
            if note["phase"] == "reflect"
        ]
        if self.first[0] == group:
            pairs.append((self.unknowing, self.first[1], plays.get(0)))
        self.first = group, plays.get(0, [])
        for counts, lost, other in pairs:
            if lost and other and not lost[-1].get("success"):
                again = repeats(lost, other)
                if again is not None:
                    counts[again] += 1

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
        counts: Found = {"searched": self.trials, "notes": self.notes}
        counts |= {"noted": self.noted, "unknowing": self.unknowing}
        return {kind: found for kind, (_, found) in self.best.items()} | counts


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


def learned(evaluations: Sequence[Found], records: Sequence[Record]) -> Found:
    """Where the trials of a run begin to win more often than as many independent attempts.

    Args:
        evaluations: on held-out boards, in order of training.

    Returns:
        `first`, the first evaluation whose interval lies above that of the attempts; `most`, that of the
        largest gain, and `last`; each only if there is one. `in_a_row`, the first IN_A_ROW iterations of
        which each is above the attempts on its training boards, or None; `compared`, how many could be.
    """
    evaluations = [e for e in evaluations if e["success_at"] and e["independent"]]
    found: Found = {}
    if evaluations:
        found["most"] = max(evaluations, key=lambda e: e["success_at"][-1] - e["independent"][-1])
        found["last"] = evaluations[-1]
    for record in reversed(evaluations):
        low, high = record.get("success_low"), record.get("independent_high")
        if low and high and low[-1] > high[-1]:
            found["first"] = record
    above = [(r.iteration, r.success_at[-1] > r.independent[-1]) for r in records if r.independent]
    rows = (above[i : i + IN_A_ROW] for i in range(len(above) - IN_A_ROW + 1))
    row = next((row for row in rows if all(is_above for _, is_above in row)), None)
    in_a_row = None if row is None else (row[0][0], row[-1][0])
    return found | {"in_a_row": in_a_row, "compared": len(above)}
