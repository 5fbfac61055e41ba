"""What a cell played, to look at: the first boards of `test` in every mode, on a page of their own."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.eval.record import OWN, EvalRecord
from lamer_fast.eval.success import Evaluation
from lamer_fast.fields import to_flat
from lamer_fast.files import replace_folder
from lamer_fast.report.page import write_eval_report
from lamer_fast.strict_json import json_text

BOARDS = 24  # of each mode
SECTIONS = ("env", "model", "rollout", "eval")


def write_trials(
    folder: Path,
    policy: str,
    config: Config,
    found: Mapping[str, Evaluation],
    trials: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """record.json, trials.jsonl.gz and report.html in `folder`, as `lamer-fast eval --out` writes them.

    Args:
        found: mode -> what was won.
        trials: mode -> its transcripts, in the order of the panel.
    """
    first = next(iter(found))
    named = {OWN if mode == first else mode: result for mode, result in found.items()}
    settings = {key: v for key, v in to_flat(config).items() if key.partition(".")[0] in SECTIONS}
    record = EvalRecord(policy, named, label=f"{policy}, {first}", settings=settings)
    lines = [
        json_text({"panel": mode, "panel_digest": found[mode].panel, **trial}) + "\n"
        for mode, played in trials.items()
        for trial in played[:BOARDS]
    ]

    def write(path: Path) -> None:
        with gzip.open(path / "trials.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(lines)
        record.write(path / "record.json")
        write_eval_report(path, record.to_json())

    replace_folder(folder, write)
