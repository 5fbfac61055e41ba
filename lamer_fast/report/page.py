"""report.html of a run or an evaluation: one self-contained page with curves, a table and real trials.

Texts of models and boards reach the page as JSON and are only ever set as text, never as markup.
"""

import json
import math
from pathlib import Path
from typing import Any

from lamer_fast.envs.registry import summary as env_summary
from lamer_fast.files import read_jsonl, replace_file
from lamer_fast.run import records
from lamer_fast.run.whose import check_is_run
from lamer_fast.text import printable

TEMPLATE = Path(__file__).with_name("report.html")
MAX_TRIALS = 60  # shown in the viewer: the first and the last of the run
MAX_TEXT = 20_000  # characters of one board or reply


def read_trials(path: Path) -> list[dict[str, Any]]:
    """Trials of trials/ITERATION.jsonl.gz, each with its iteration."""
    return [{"iteration": int(path.name.split(".")[0])} | trial for trial in read_jsonl(path)]


def read_run(run: Path) -> dict[str, Any]:
    """Everything that the page shows."""
    check_is_run(run)
    config = json.loads((run / "config.json").read_text())
    metrics = [record.to_json() for record in records.read(run / "metrics.jsonl")]
    files = sorted((run / "trials").glob("*.jsonl.gz"))
    half = MAX_TRIALS // 2
    trials = [t for f in (files[:1] if len(files) > 1 else []) for t in read_trials(f)][:half]
    trials += [t for f in files[-1:] for t in read_trials(f)][:half]
    evaluations = [_shown(json.loads(f.read_text())) for f in sorted((run / "eval").glob("*.json"))]
    evaluations.sort(key=lambda e: e.get("iteration", 0))
    summary = (
        f"{env_summary(config)}; trials of up to "
        f"{config['rollout.episodes']} episodes of {config['rollout.max_turns']} turns; "
        f"{config['rollout.groups']} groups of {config['rollout.trials_per_group']} trials; "
        f"{config['algo.estimator']}, gamma_traj {config['algo.gamma_traj']}; {len(metrics)} iterations"
    )
    return {
        "name": config["name"], "summary": summary, "metrics": metrics, "trials": _printable(trials),
        "evaluations": evaluations,
    }  # fmt: skip


def _printable(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for trial in trials:
        for turn in trial["turns"]:
            turn["board"] = printable(turn.get("board") or "", MAX_TEXT)
            turn["reply"] = printable(turn["reply"], MAX_TEXT)
    return trials


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    """A record of an evaluation without the numbers of each task."""
    for found in (record["evaluation"], *record.get("panels", {}).values()):
        found.pop("by_task", None)
    return record


def finite(value: Any) -> Any:
    """The same JSON with null for NaN and infinities, which JSON in a browser does not know."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_report(run: Path) -> Path:
    """Writes and returns runs/NAME/report.html."""
    return _write(run / "report.html", read_run(run))


def write_eval_report(folder: Path, record: dict[str, Any]) -> Path:
    """The page of one evaluation, with trials of trials.jsonl.gz where the folder has it."""
    path, half = folder / "trials.jsonl.gz", MAX_TRIALS // 2
    trials = read_jsonl(path) if path.exists() else []
    if len(trials) > MAX_TRIALS:
        trials = trials[:half] + trials[-half:]
    settings = record.get("settings", {})
    summary = env_summary(settings) if "env.name" in settings else ""
    data: dict[str, Any] = {"name": printable(record["policy"], 200), "summary": summary, "metrics": []}
    data |= {"trials": _printable(trials), "evaluations": [_shown(record)]}
    return _write(folder / "report.html", data)


def _write(page: Path, data: dict[str, Any]) -> Path:
    text = json.dumps(finite(data), separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    replace_file(page, TEMPLATE.read_text().replace("__DATA__", text))
    return page
