"""Recorded trials as logs of Inspect (inspect.aisi.org.uk), whose viewer and data frames then read them.

One log holds one iteration of a run, or one panel of an evaluation. A group is a sample and each of its
trials an epoch of it; a turn is a board, a reply with what came of it, and a model event whose output carries
the log-probabilities of the tokens. The package need not be installed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lamer_fast.files import read_json, replace_file
from lamer_fast.strict_json import finite, json_text
from lamer_fast.text import printable
from lamer_fast.trials import trial_files, trials_of

VERSION = 2  # of the format
OF_TURNS = ("reward", "return", "advantage", "valid", "done", "success", "truncated", "anchor")
OF_TOKENS = ("trainer_logprobs", "entropy")

Trial = Mapping[str, Any]
Json = dict[str, Any]


def write_logs(source: Path, folder: Path) -> list[Path]:
    """Writes a log for each iteration or panel of a run, an evaluation's folder, or a file of trials.

    Raises:
        ValueError: there are no trials, or a file holds something else.
        CannotWrite: logs that were there are whole.
    """
    config = _settings(source)
    written = []
    for file in trial_files(source):
        time = datetime.fromtimestamp(file.stat().st_mtime, UTC).replace(microsecond=0)
        for part, trials in _parts(trials_of(file)).items():
            log = log_of(trials, config, time, part)
            words = [_word(log["eval"][key]) for key in ("task", "task_id")]
            path = folder / ("_".join([f"{time:%Y-%m-%dT%H-%M-%S}+00-00", *words]) + ".json")
            replace_file(path, json_text(finite(log)))
            written.append(path)
    return written


def log_of(trials: Sequence[Trial], config: Mapping[str, Any], time: datetime, part: str) -> Json:
    """One log of at least one trial.

    Args:
        config: settings as config.json of a run has them; may be empty.
        part: the name of the panel, if it has one.
    """
    base, iteration = str(config.get("model.path", "unknown")), trials[0].get("iteration")
    task, at = printable(str(config.get("name", "trials")), 200), time.isoformat()
    model = printable(base if iteration is None else f"{base} + {iteration} iterations", 200)
    label = part or ("all" if iteration is None else f"{iteration:06d}")
    samples = list(_samples(trials, model, at))
    groups = sorted({sample["id"] for sample in samples})
    names = list(samples[0]["scores"])
    return {
        "version": VERSION,
        "status": "success",
        "eval": {
            "eval_id": f"{task} {label}",
            "run_id": task,
            "task": task,
            "task_id": label,
            "created": at,
            "model": model,
            "task_args": dict(config),
            "dataset": {"name": config.get("env.name"), "samples": len(groups), "sample_ids": groups},
            "config": {"epochs": max(sample["epoch"] for sample in samples)},
            "packages": {"lamer_fast": str(config.get("version", "unknown"))},
            "metadata": {"samples": "the trials that were recorded, of what may have been more"},
            "scorers": [{"name": name} for name in names],
        },
        "plan": {"name": "trials of several episodes with reflections between them", "steps": []},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [_mean(name, [s["scores"][name]["value"] for s in samples]) for name in names],
        },
        "stats": {"started_at": at, "completed_at": at},
        "samples": samples,
    }


def _samples(trials: Iterable[Trial], model: str, at: str) -> Iterator[Json]:
    played: Counter[int] = Counter()
    for trial in trials:
        group, turns = int(trial["group"]), trial["turns"]
        played[group] += 1
        messages, events = _story(turns, model, at)
        won = [bool(x) for x in trial["success_by_episode"]]
        scores = {f"success@{k}": float(any(won[:k])) for k in range(len(won), 0, -1)}  # the first is listed
        scores["reward"] = math.fsum(turn["reward"] for turn in turns)
        words = [trial.get("task_text"), turns[0]["board"] if turns else None]
        sample: Json = {
            "id": group,
            "epoch": played[group],
            "input": "\n\n".join(_clean(text) for text in words if text),
            "target": "solved",
            "messages": messages,
            "events": events,
            "output": _output(messages[-1], model) if messages else {},
            "scores": {name: {"value": value} for name, value in scores.items()},
            "metadata": {"trial": trial["trial"]}
            | {key: f"{trial[key]:016x}" for key in ("task", "seed") if key in trial}  # of 64 bits
            | {key: trial[key] for key in ("panel", "panel_digest") if key in trial},
        }
        if "error" in trial:
            text = _clean(trial["error"])
            sample["error"] = {"message": text, "traceback": text, "traceback_ansi": text}
        yield sample


def _story(turns: Sequence[Trial], model: str, at: str) -> tuple[list[Json], list[Json]]:
    """(messages, events) of a trial, a span around each episode and around each reflection."""
    messages: list[Json] = []
    events: list[Json] = []
    when = {"timestamp": at, "working_start": 0.0}
    open_span = ""
    for i, turn in enumerate(turns):
        span = ("reflection before " if turn["phase"] == "reflect" else "") + f"episode {turn['episode'] + 1}"
        if span != open_span:
            events += [{"event": "span_end", "id": open_span, **when}] if open_span else []
            events.append({"event": "span_begin", "id": span, "name": span, "type": "lamer", **when})
            open_span = span
        board: Json = {"role": "user", "id": f"board-{i}", "content": _shown(turn["board"])}
        reply: Json = {"role": "assistant", "id": f"reply-{i}", "content": _clean(turn["reply"])}
        reply |= {"source": "generate", "metadata": {key: turn[key] for key in OF_TURNS if key in turn}}
        event: Json = {"event": "model", "model": model, "input": [board], "span_id": span, **when}
        event |= {"tools": [], "tool_choice": "none", "config": {}, "output": _output(reply, model, turn)}
        messages += [board, reply]
        events.append(event)
    return messages, events + ([{"event": "span_end", "id": open_span, **when}] if open_span else [])


def _output(reply: Json, model: str, turn: Trial | None = None) -> Json:
    """Log-probabilities are the sampler's; one that was not finite is recorded as null and left out."""
    turn = turn or {}
    pairs = zip(turn.get("token_texts", ()), turn.get("rollout_logprobs", ()), strict=True)
    content = [{"token": _clean(text), "logprob": value} for text, value in pairs if value is not None]
    choice: Json = {"message": reply, "stop_reason": "stop"} | (
        {"logprobs": {"content": content}} if content else {}
    )
    return {"model": model, "choices": [choice], "metadata": {k: turn[k] for k in OF_TOKENS if k in turn}}


def _mean(name: str, values: Sequence[float]) -> Json:
    mean = {"name": "mean", "value": math.fsum(values) / len(values)}
    return {"name": name, "scorer": name, "reducer": "mean", "metrics": {"mean": mean}}


def _parts(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Trials of an evaluation by their panel; those of a run together."""
    parts: dict[str, list[Trial]] = {}
    for trial in trials:
        parts.setdefault(str(trial.get("panel", "")), []).append(trial)
    return parts


def _settings(source: Path) -> Json:
    """Of the run or the evaluation that the trials are of; nothing beside a file of trials alone."""
    folder = source.parent if source.is_file() else source
    for path in (folder / "config.json", folder.parent / "config.json", folder / "record.json"):
        if path.is_file():
            found = read_json(path)
            return {"name": found["policy"], **found["settings"]} if path.name == "record.json" else found
    return {}


def _shown(text: object) -> str:
    """Of several lines: fenced. The viewer reads Markdown, to which a row of walls, `###`, is a heading."""
    text = _clean(text)
    fence = "`" * max(map(len, ["``", *re.findall("`+", text)])) + "`"
    return f"{fence}\n{text}\n{fence}" if "\n" in text else text


def _clean(text: object) -> str:
    """Without halves of surrogate pairs, which JSON can carry and its strict readers refuse."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def _word(text: str) -> str:
    """For the name of a log, whose parts stand between underscores."""
    return re.sub(r"[^\w.-]|_", "-", text)[:80]
