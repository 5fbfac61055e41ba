"""report.html of a run or an evaluation, and of several runs beside each other: one self-contained page.

Texts of models and boards reach the page as JSON and are only ever set as text, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config.resolve import read_config
from lamer_fast.envs.registry import summary as env_summary
from lamer_fast.fields import settings_of
from lamer_fast.files import read_jsonl, replace_file
from lamer_fast.report.findings import learned
from lamer_fast.report.sample import MAX_TEXT, embedded, sampled
from lamer_fast.run import records
from lamer_fast.run.whose import check_is_run
from lamer_fast.text import printable

FOLDER = Path(__file__).parent
SCRIPTS = ("elements.js", "charts.js", "boards.js", "tokens.js", "trials.js", "curves.js", "overview.js")


def read_run(run: Path, *, trials: bool = True) -> dict[str, Any]:
    """Everything that the page shows of a run; without `trials` its curves and settings alone."""
    check_is_run(run)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    found = records.read(run / "metrics.jsonl")
    evaluations = [_shown(json.loads(f.read_text())) for f in sorted((run / "eval").glob("*.json"))]
    evaluations.sort(key=lambda e: e.get("iteration", 0))
    summary = (
        f"{env_summary(config)}; trials of up to "
        f"{config['rollout.episodes']} episodes of {config['rollout.max_turns']} turns; "
        f"{config['rollout.groups']} groups of {config['rollout.trials_per_group']} trials; "
        f"{config['algo.estimator']}, gamma_traj {config['algo.gamma_traj']}; {len(found)} iterations"
    )
    metrics = [record.to_json() for record in found]
    files = sorted((run / "trials").glob("*.jsonl.gz")) if trials else []
    shown, told = sampled(files)
    made = [m[key] for m in metrics for key in ("eval_before", "eval") if key in m]
    made = sorted([*made, *map(_summed_up, evaluations)], key=lambda e: e["iteration"])
    starts = run / "starts.jsonl"
    return {
        "name": printable(str(config["name"]), 200), "summary": printable(summary, MAX_TEXT),
        "env": printable(str(config["env.name"]), 200), "metrics": metrics, "evaluations": evaluations,
        "trials": shown, "findings": told | {"learned": learned(made)}, "config": _config(run, config),
        "starts": _printable(read_jsonl(starts)) if starts.exists() else [],
        "logged": config.get("train.trials_logged"),
        "added": sorted({key for record in found for key in record.others}),
    }  # fmt: skip


def _config(run: Path, config: dict[str, Any]) -> list[list[Any]]:
    """[key, value, default], the default missing where no installed version knows the setting."""
    try:
        settings = settings_of(read_config(run / "config.json"))
    except (ValueError, ImportError):  # of another version, or of an environment that is not here
        settings = settings_of(Config)
    keys = [key for key in config if key not in ("version", "name")]
    rows = [[key, config[key], *([settings[key].default] if key in settings else [])] for key in keys]
    return [[_printable(value) for value in row] for row in rows]


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(str(key), 200): _printable(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(v) for v in value]
    return printable(value, MAX_TEXT) if isinstance(value, str) else value


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    """A record of an evaluation without the numbers of each task."""
    for found in (record["evaluation"], *record.get("panels", {}).values()):
        found.pop("by_task", None)
    return record


def _summed_up(record: dict[str, Any]) -> dict[str, Any]:
    """The record of an evaluation in the form of those that training makes."""
    found = record["evaluation"]
    columns = {
        f"{name}_{end}": [e[key] for e in found.get(kind, [])]
        for name, kind in (("success", "trial"), ("independent", "independent"))
        for end, key in (("at", "mean"), ("low", "low"), ("high", "high"))
    }
    return columns | {"iteration": record.get("iteration", 0), "independent": columns["independent_at"]}


def write_report(run: Path) -> Path:
    """Writes and returns runs/NAME/report.html."""
    return _write(run / "report.html", [read_run(run)])


def write_comparison(runs: Sequence[Path]) -> Path:
    """Writes and returns comparison.html beside the first run: curves, tables, differing settings."""
    return _write(runs[0].parent / "comparison.html", [read_run(run, trials=False) for run in runs])


def write_eval_report(folder: Path, record: dict[str, Any]) -> Path:
    """The page of one evaluation, with trials of trials.jsonl.gz where the folder has it."""
    path, settings = folder / "trials.jsonl.gz", record.get("settings", {})
    trials, told = sampled([path] if path.exists() else [])
    return _write(folder / "report.html", [{
        "name": printable(record["policy"], 200), "env": settings.get("env.name", ""),
        "summary": env_summary(settings) if "env.name" in settings else "", "metrics": [], "trials": trials,
        "findings": told, "evaluations": [_shown(record)], "config": [], "starts": [], "logged": None,
    }])  # fmt: skip


def _write(page: Path, runs: list[dict[str, Any]]) -> Path:
    parts = {"__STYLE__": ["style.css"], "__SCRIPT__": SCRIPTS}
    content = (FOLDER / "report.html").read_text(encoding="utf-8")
    for place, names in parts.items():
        content = content.replace(place, "".join((FOLDER / n).read_text(encoding="utf-8") for n in names))
    before, after = content.split("__DATA__")
    replace_file(page, before + embedded({"runs": runs}) + after)
    return page
