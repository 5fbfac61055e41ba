"""report.html of a run or an evaluation, and of several runs beside each other: one self-contained page.

Texts of models and boards reach the page as JSON and are only ever set as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config.resolve import read_config
from lamer_fast.envs.registry import summary as env_summary
from lamer_fast.fields import settings_of
from lamer_fast.files import read_json, read_jsonl, replace_file
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
    config = _settings(run / "config.json")
    found = records.read(run / "metrics.jsonl")
    evaluations = [_evaluation(file) for file in sorted((run / "eval").glob("*.json"))]
    evaluations.sort(key=lambda e: e.get("iteration", 0))
    K = config["rollout.episodes"]
    summary = (
        f"{env_summary(config)}; trials of {'one episode' if K == 1 else f'up to {K} episodes'} "
        f"of up to {config['rollout.max_turns']} turns; "
        f"{config['rollout.groups']} groups of {config['rollout.trials_per_group']} trials; "
        f"{config['algo.estimator']}, gamma_traj {config['algo.gamma_traj']}; "
        f"{len(found)} iteration{'' if len(found) == 1 else 's'}"
    )
    metrics = [record.to_json() for record in found]
    files = sorted((run / "trials").glob("*.jsonl.gz")) if trials else []
    shown, told = sampled(files)
    evaluated = _evaluated(metrics, evaluations, config)
    starts = run / "starts.jsonl"
    return {
        "name": printable(str(config["name"]), 200), "summary": printable(summary, MAX_TEXT),
        "env": printable(str(config["env.name"]), 200), "metrics": metrics, "evaluations": evaluations,
        "trials": shown, "findings": told | {"learned": learned(evaluated, found)}, "evaluated": evaluated,
        "config": _config(run, config),
        "starts": _printable(read_jsonl(starts)) if starts.exists() else [],
        "logged": config.get("train.trials_logged"), "hidden": _hides_moves(config),
        "added": sorted({key for record in found for key in record.others}),
    }  # fmt: skip


def _hides_moves(settings: dict[str, Any]) -> bool:
    """A move's word does not tell where it leads."""
    return bool(settings.get("env.controls", "plain") != "plain" or settings.get("env.sticky", 0) > 0)


SUMMED_UP = (
    "name", "env.name", "rollout.episodes", "rollout.max_turns", "rollout.groups",
    "rollout.trials_per_group", "algo.estimator", "algo.gamma_traj",
)  # fmt: skip


def _settings(path: Path) -> dict[str, Any]:
    found = read_json(path)
    missing = [key for key in SUMMED_UP if not isinstance(found, dict) or key not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}, expected the settings of a run")
    return dict(found)


def _evaluation(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("evaluation"), dict):
        raise ValueError(f"{path} is no record of an evaluation: it has no evaluation")
    return _shown(found)


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


def _evaluated(
    metrics: list[dict[str, Any]], labelled: list[dict[str, Any]], config: dict[str, Any]
) -> list[dict[str, Any]]:
    """Evaluations of one panel, played as the run plays its own, in order of training: one curve."""
    made = [m[key] for m in metrics for key in ("eval_before", "eval") if key in m]
    taken = {e["iteration"] for e in made}
    alike = [_summed_up(e) for e in labelled if _is_of(config, e.get("settings", {}))]
    made += [e for e in alike if e["iteration"] not in taken]
    panel = made[0]["panel"] if made else ""
    return sorted((e for e in made if e["panel"] == panel), key=lambda e: e["iteration"])


def _is_of(config: dict[str, Any], settings: dict[str, Any]) -> bool:
    played = (key for key in settings if key.partition(".")[0] in ("env", "rollout", "eval"))
    return all(config.get(key, settings[key]) == settings[key] for key in played)


def _summed_up(record: dict[str, Any]) -> dict[str, Any]:
    """The record of an evaluation in the form of those that training makes."""
    found = record["evaluation"]
    columns = {
        f"{name}_{end}": [e[key] for e in found.get(kind, [])]
        for name, kind in (("success", "trial"), ("independent", "independent"))
        for end, key in (("at", "mean"), ("low", "low"), ("high", "high"))
    }
    columns["independent"] = columns.pop("independent_at")
    return columns | {"iteration": record.get("iteration", 0), "panel": found.get("panel", "")}


def write_report(run: Path) -> Path:
    """Writes and returns runs/NAME/report.html."""
    return _write(run / "report.html", [read_run(run)])


def write_comparison(runs: Sequence[Path]) -> Path:
    """Writes and returns comparison.html beside the first run: curves, tables, differing settings."""
    found = [read_run(run, trials=False) for run in runs]
    if len({of_run["name"] for of_run in found}) < len(found):  # copies, or equal names in several folders
        for of_run, name in zip(found, _told_apart(runs), strict=True):
            of_run["name"] = printable(name, 200)
    return _write(runs[0].parent / "comparison.html", found)


def _told_apart(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths, as short as they differ."""
    parts = [path.absolute().parts for path in paths]
    ends = (["/".join(p[-n:]) for p in parts] for n in range(1, max(map(len, parts)) + 1))
    return next(names for names in ends if len(set(names)) == len(names))


def write_eval_report(folder: Path, record: dict[str, Any]) -> Path:
    """The page of one evaluation, with trials of trials.jsonl.gz where the folder has it."""
    path, settings = folder / "trials.jsonl.gz", record.get("settings", {})
    trials, told = sampled([path] if path.exists() else [])
    return _write(folder / "report.html", [{
        "name": printable(record["policy"], 200), "env": settings.get("env.name", ""),
        "summary": env_summary(settings) if "env.name" in settings else "", "metrics": [], "trials": trials,
        "findings": told, "evaluations": [_shown(record)], "config": [], "starts": [], "logged": None,
        "hidden": _hides_moves(settings), "evaluated": [],
    }])  # fmt: skip


def _write(page: Path, runs: list[dict[str, Any]]) -> Path:
    parts = {"__STYLE__": ["style.css"], "__SCRIPT__": SCRIPTS}
    content = (FOLDER / "report.html").read_text(encoding="utf-8")
    for place, names in parts.items():
        content = content.replace(place, "".join((FOLDER / n).read_text(encoding="utf-8") for n in names))
    before, after = content.split("__DATA__")
    replace_file(page, before + embedded({"runs": runs}) + after)
    return page
