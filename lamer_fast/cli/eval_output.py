"""Where an evaluation goes: the screen, a folder of its own, and beside another record."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamer_fast.eval.record import EvalRecord, check_same_panels, differences, read_record
from lamer_fast.eval.table import difference_table, table
from lamer_fast.files import check_folder, writing
from lamer_fast.report.page import write_eval_report
from lamer_fast.strict_json import json_text

RECORD, TRIALS = "record.json", "trials.jsonl.gz"
MAX_TRIALS = 60  # of another's samples, for the page


class Output:
    """Looks first: what cannot be written or compared is told before anything is played.

    Args:
        folder: for record, trials and page; None: the screen alone. One that holds a record is not touched.
        against: a record to compare with.
        digests: of the panels that will be played, by name.
    """

    def __init__(self, folder: Path | None, against: Path | None, digests: Mapping[str, str]) -> None:
        self.folder, self.digests = folder, digests
        self.other = None if against is None else read_record(against)
        self.common: list[str] = []
        if self.other is not None and against is not None:
            self.common = check_same_panels(digests, self.other, against)
        if folder is None:
            return
        if (folder / RECORD).exists() or (folder / TRIALS).exists():
            raise ValueError(f"--out {folder} holds an evaluation already: take another folder")
        check_folder("--out", folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def keep(self, panel: str, trials: list[dict[str, Any]]) -> None:
        """Trials are written as they come: what was played is not lost with what was not."""
        if self.folder is None:
            return
        path = self.folder / TRIALS
        of = {"panel": panel} if panel else {}
        named = [of | {"panel_digest": self.digests[panel]} | trial for trial in trials]
        with writing(path), gzip.open(path, "at", encoding="utf-8") as file:
            file.writelines(json_text(trial) + "\n" for trial in named)

    def show(self, record: EvalRecord) -> None:
        """Prints the record, and writes it where a folder was given."""
        names = {name: f"{record.policy}, {name}" if name else record.policy for name in record.panels}
        print(table({names[name]: found for name, found in record.panels.items()}))
        if self.other is not None:
            pairs = {name: differences(record.panels[name], self.other.panels[name]) for name in self.common}
            print("\n" + difference_table(record.policy, self.other.policy, pairs))
        self.write(record)

    def write(self, record: EvalRecord) -> None:
        """Record and page, where a folder was given."""
        if self.folder is not None:
            labelled = replace(record, label=record.label or record.policy)
            labelled.write(self.folder / RECORD)
            print(f"\nreport: {write_eval_report(self.folder, labelled.to_json())}")
