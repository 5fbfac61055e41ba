"""Which recorded trials a page shows, in the little room that it has, and what it keeps of a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lamer_fast.envs.replies import action
from lamer_fast.report.findings import Findings, add_changes, token_values
from lamer_fast.strict_json import finite, json_text
from lamer_fast.text import one_line, printable
from lamer_fast.trials import trials_of

MAX_BYTES = 1_600_000  # of trials in a page
MAX_GROUP = 400_000  # bytes of one group; a larger one is shortened
MAX_TEXT = 20_000  # characters of one board or reply
MAX_TOKENS = 4_096  # of a turn
BYTES_OF_TOKEN = 25  # at least
MAX_SEARCHED = 200  # files, evenly spread
MAX_ITERATIONS = 12

Trial = dict[str, Any]


def spread(items: list[Any], most: int) -> list[Any]:
    """At most so many, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def sampled(files: list[Path]) -> tuple[list[Trial], dict[str, Any]]:
    """(trials that fit, whole groups, in order of their iterations; what the search found).

    A damaged file is left out and named in what was found, as `unread`.
    """
    findings, searched, unread = Findings(), [], []
    for file in spread(files, MAX_SEARCHED):
        try:
            for trial in list(trials_of(file)):
                findings.add(trial)
            searched.append(file)
        except ValueError as error:
            unread.append(one_line(str(error).removeprefix(f"{file.parent}/"), 300))
    found = findings.found()
    told = [f for f in found.values() if isinstance(f, dict)]
    wanted = {f.get("iteration") for f in told}
    chosen = [f for f in searched if f.name.split(".")[0].isdecimal() and int(f.name.split(".")[0]) in wanted]
    chosen = list(dict.fromkeys([*chosen, *searched[-1:], *spread(searched, MAX_ITERATIONS)]))
    groups = [_groups(file, told) for file in chosen]
    trials: list[Trial] = []
    left = MAX_BYTES
    for rank in range(max(map(len, groups), default=0)):  # a group of each iteration before a second one
        for of_file in groups:
            if rank >= len(of_file):
                continue
            group, size = fitted(of_file[rank], told, left)
            left -= size
            trials += group
    trials.sort(key=lambda t: (t.get("iteration", 0), t.get("group", 0), t["trial"]))
    of_all = {"files": len(files), "searched_files": len(searched), "shown": len(trials)}
    return trials, found | of_all | {"unread": unread}


def embedded(value: Any) -> str:
    """JSON that nothing in it can end where it stands in a page."""
    text = json_text(finite(value), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _groups(file: Path, told: list[dict[str, Any]]) -> list[list[Trial]]:
    """Those that a finding is in come first."""
    groups: dict[Any, list[Trial]] = {}
    for trial in trials_of(file):
        groups.setdefault((trial.get("panel"), trial.get("group")), []).append(trial)
    first = {(f.get("iteration"), f.get("group")) for f in told}
    return sorted(groups.values(), key=lambda g: (g[0].get("iteration"), g[0].get("group")) not in first)


def fitted(group: list[Trial], told: list[dict[str, Any]], left: int) -> tuple[list[Trial], int]:
    """(the trials as whole as there is room for them, their bytes); none if not even one fits.

    Values of tokens go first, save those of turns that a finding names, then the ends of texts.
    """
    tokens = sum(len(turn.get("token_ids", ())) for trial in group for turn in trial["turns"])
    for some, limit, room in (
        (group, None, MAX_GROUP),
        (group, 2_000, MAX_GROUP),
        (group, 300, left),
        (group[:1], 300, left),
    ):
        if limit is None and tokens * BYTES_OF_TOKEN > room:
            continue
        found = [shown(trial, limit, told) for trial in some]
        size = len(embedded(found))
        if size <= min(room, left):
            return found, size
    return [], 0


def shown(trial: Trial, limit: int | None = None, told: Sequence[dict[str, Any]] = ()) -> Trial:
    """What the page keeps of it, every text harmless; with a limit of characters it is `shortened`."""
    add_changes(trial)
    kept = {
        k: v for k, v in trial.items() if k in ("iteration", "group", "trial", "success_by_episode", "panel")
    }
    for key in ("task", "seed"):  # numbers that a browser would round
        kept |= {key: str(trial[key])} if key in trial else {}
    for key in ("task_text", "error"):
        kept |= {key: printable(trial[key], MAX_TEXT)} if trial.get(key) else {}
    if limit is None:
        return kept | {"turns": [_turn(turn) for turn in trial["turns"]]}
    where = [tuple(f.get(key) for key in ("iteration", "group", "trial")) for f in told]
    here = tuple(trial.get(key) for key in ("iteration", "group", "trial"))
    named = {f.get("index") for f, place in zip(told, where, strict=True) if place == here}
    turns = [_turn(t) if i in named else _turn(t, limit, 0) for i, t in enumerate(trial["turns"])]
    return kept | {"turns": turns, "shortened": True}


TURN_KEYS = (
    "phase", "episode", "turn", "reward", "valid", "done", "success", "truncated", "advantage", "return",
    "anchor",
)  # fmt: skip


def _turn(turn: dict[str, Any], limit: int = MAX_TEXT, max_tokens: int = MAX_TOKENS) -> dict[str, Any]:
    kept = {key: turn[key] for key in TURN_KEYS if key in turn}
    kept |= {key: printable(turn.get(key) or "", limit) for key in ("board", "reply")}
    if (chosen := action(turn["reply"])) is not None:
        kept["action"] = printable(chosen, 300)
    if change := turn.get("change"):
        kept["change"] = {k: printable(v, 300) if isinstance(v, str) else v for k, v in change.items()}
    if max_tokens and "token_ids" in turn:
        kept["tokens"] = list(islice(_tokens(turn), max_tokens))
        kept["num_tokens"] = len(turn["token_ids"])
    return kept


def _tokens(turn: dict[str, Any]) -> Iterator[list[Any]]:
    """[text, id, sampler's log-probability, trainer's - sampler's, entropy], short numbers."""
    entropy = turn.get("entropy") or [None] * len(turn["token_ids"])
    values = zip(turn["token_texts"], turn["token_ids"], turn["rollout_logprobs"], entropy, strict=False)
    for (text, token, logprob, spread_), (_, gap) in zip(values, token_values(turn), strict=False):
        yield [printable(text, 200), token, _digits(logprob, 4), _digits(gap, 3), _digits(spread_, 3)]


def _digits(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
