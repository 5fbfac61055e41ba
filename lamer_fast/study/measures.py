"""What an agent does in its trials, beside winning them: one value a board, from recorded trials.

A trial is a dictionary as `lamer_fast.read_trials` gives it. A board on which a measure has no value (no
note, no second episode) has None; means are over the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lamer_fast.agent.prompts import action_text
from lamer_fast.envs.options import EnvOptions
from lamer_fast.study.truth import truths_of

Trial = Mapping[str, Any]
Values = dict[str, list[float | None]]
MEASURES = {
    "states": "distinct boards that a trial has seen",
    "overlap": "of two episodes of a trial, boards that both have seen among those of either; start left out",
    "repeated": "share of the later episodes that repeat, action for action, one that failed before",
    "plan_entropy": "nats of the first episode's actions, over independent episodes on a board",
    "note_words": "words of a reflection",
    "note_true": "share of its statements that are true on the board",
    "note_complete": "share of the mines hit so far that it names",
}
KINDS = {"exploration": tuple(MEASURES)[:4], "notes": tuple(MEASURES)[4:]}
PLAN_BOARDS, PLAN_EPISODES = 64, 16  # of `plan_entropy`; ln 16 = 2.77 is the most that it can be


def measured(kinds: Sequence[str], trials: Sequence[Trial], env: EnvOptions, split: str) -> Values:
    """[trials] of each measure of `kinds` that a trial alone decides, rounded."""
    found: Values = {}
    if "exploration" in kinds:
        rows = [exploration(trial) for trial in trials]
        found |= {name: [row[i] for row in rows] for i, name in enumerate(KINDS["exploration"][:3])}
    if "notes" in kinds:
        found["note_words"] = [mean([len(note.split()) for note in notes_of(trial)]) for trial in trials]
        for name, truths in zip(KINDS["notes"][1:], truths_of(trials, env, split), strict=True):
            found[name] = [mean(values) for values in truths]
    return {name: [rounded(value) for value in values] for name, values in found.items()}


def exploration(trial: Trial) -> tuple[float | None, float | None, float | None]:
    """(distinct states, overlap of its episodes, share of repeated failed plans)"""
    episodes = episodes_of(trial)
    if not episodes:  # its environment lost it
        return None, None, None
    seen = [{turn["board"] for turn in turns} for turns in episodes]
    start = episodes[0][0]["board"]
    pairs = [(a - {start}, b - {start}) for a, b in combinations(seen, 2)]
    overlaps = [len(a & b) / len(a | b) for a, b in pairs if a | b]
    plans = [plan_of(turns) for turns in episodes]
    repeats = [plan in plans[:k] for k, plan in enumerate(plans)][1:]
    return float(len(set().union(*seen))), mean(overlaps), mean(repeats)


def plan_entropies(trials: Sequence[Trial], each: int) -> list[float | None]:
    """Of `each` first episodes on every board, in the order of boards; nats, as counted (biased down)."""
    found: list[float | None] = []
    for first in range(0, len(trials), each):
        plans = [plan_of(episodes_of(trial)[0]) for trial in trials[first : first + each] if trial["turns"]]
        _, counts = np.unique(["\0".join(plan) for plan in plans], return_counts=True)
        shares = counts / counts.sum()
        found.append(rounded(float(-(shares * np.log(shares)).sum())))
    return found


def of_training(by_iteration: Mapping[int, Sequence[Trial]], env: EnvOptions) -> dict[str, list[Any]]:
    """Per iteration, of the trials that a run recorded: words of a note, share of notes that no earlier
    iteration wrote, share of true statements."""
    known: set[str] = set()
    found: dict[str, list[Any]] = {"iteration": [], "note_words": [], "note_new": [], "note_true": []}
    for iteration, trials in sorted(by_iteration.items()):
        notes = [note for trial in trials for note in notes_of(trial)]
        true = [value for values in truths_of(trials, env, "train")[0] for value in values]
        found["iteration"].append(iteration + 1)
        found["note_words"].append(rounded(mean([len(note.split()) for note in notes])))
        found["note_new"].append(rounded(mean([note not in known for note in notes])))
        found["note_true"].append(rounded(mean(true)))
        known.update(notes)
    return found


def episodes_of(trial: Trial) -> list[list[Mapping[str, Any]]]:
    """Its PLAY turns, by episode."""
    played = [turn for turn in trial["turns"] if turn["phase"] == "play"]
    return [[turn for turn in played if turn["episode"] == k] for k in sorted({t["episode"] for t in played})]


def plan_of(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    return [action_text(turn["reply"]) for turn in turns]


def notes_of(trial: Trial) -> list[str]:
    return [turn["reply"] for turn in trial["turns"] if turn["phase"] == "reflect"]


def mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def rounded(value: float | None) -> float | None:
    """A whole number is an int: files have one for each board."""
    if value is None:
        return None
    return int(value) if value == int(value) else round(value, 3)
