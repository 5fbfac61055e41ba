"""The record of an evaluation as a file, and two of them compared task by task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lamer_fast import __version__
from lamer_fast.eval.intervals import Estimate, difference
from lamer_fast.eval.success import ByTask, Evaluation
from lamer_fast.files import replace_file
from lamer_fast.strict_json import json_text

FORMAT = 1
OWN = ""  # the panel of a policy's own boards


@dataclass(frozen=True)
class EvalRecord:
    """What one command found."""

    policy: str  # a run folder, a recipe, a model of an endpoint, a file of rollouts
    panels: dict[str, Evaluation]  # by name; OWN comes first
    label: str = ""
    iteration: int | None = None  # that a run was trained for
    settings: dict[str, Any] = field(default_factory=dict)  # dotted key -> value
    endpoint: dict[str, Any] | None = None  # address, model, tokens and what they cost

    def to_json(self) -> dict[str, Any]:
        own, *others = ((name, found.to_json()) for name, found in self.panels.items())
        facts = {"format": FORMAT, "version": __version__, "label": self.label, "policy": self.policy}
        facts |= {"iteration": self.iteration, "settings": self.settings, "endpoint": self.endpoint}
        facts |= {"evaluation": own[1], "panels": dict(others)}
        return {key: value for key, value in facts.items() if value is not None}

    def write(self, path: Path) -> None:
        replace_file(path, json_text(self.to_json(), indent=1) + "\n")


def read_record(path: Path) -> EvalRecord:
    """Raises ValueError naming the file when it is no record of an evaluation."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} is no record of an evaluation: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no record of an evaluation: {error}") from None
    try:
        found = values.get("format", FORMAT)
        if found != FORMAT:
            raise ValueError(f"it has format {found!r}, this version reads {FORMAT}")
        panels = {OWN: _evaluation(values["evaluation"])}
        panels |= {name: _evaluation(value) for name, value in values.get("panels", {}).items()}
        return EvalRecord(str(values.get("policy", values.get("label", path))), panels)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is no record of an evaluation: {what}") from None


def _evaluation(values: Mapping[str, Any]) -> Evaluation:
    by_task = values.get("by_task")
    gain = values.get("gain_over_independent")
    return Evaluation(
        split=str(values["split"]),
        num_tasks=int(values["num_tasks"]),
        episodes=int(values["episodes"]),
        trial=[Estimate(**e) for e in values["trial"]],
        independent=[Estimate(**e) for e in values["independent"]],
        gain_over_independent=Estimate(**gain) if gain else None,
        panel=str(values.get("panel", "")),
        lost=int(values.get("lost", 0)),
        usage=values.get("usage"),
        by_task=ByTask(**by_task) if by_task else None,
        bound=values.get("bound"),
        regret=[Estimate(**e) for e in values.get("regret", [])],
    )


def check_same_panels(digests: Mapping[str, str], other: EvalRecord, path: Path) -> list[str]:
    """The names of panels that both have; `digests` of what is played now, by name.

    Raises:
        ValueError: one of them is another set of tasks in the two, or they share none; names both digests.
    """
    common = [name for name in digests if name in other.panels]
    for name in common:
        before = other.panels[name]
        if before.panel != digests[name]:
            what = f"panel {name!r}" if name else "the panel"
            raise ValueError(
                f"{what} has digest {digests[name]} now, but {before.panel or 'none'} in {path}: other "
                "tasks, which cannot be paired"
            )
        if before.by_task is None:
            raise ValueError(f"{path} does not hold what was won on each task: evaluate that policy again")
    if not common:
        raise ValueError(f"{path} holds the panels {sorted(other.panels)}, none of {sorted(digests)}")
    return common


def differences(now: Evaluation, before: Evaluation) -> dict[str, list[Estimate]]:
    """kind -> success@1..K of `now` minus that of `before`, paired by task; K is the smaller of the two."""
    if now.by_task is None or before.by_task is None:
        raise ValueError(f"what was won on each task of panel {now.panel} is not known")
    if sorted(now.by_task.tasks) != sorted(before.by_task.tasks):
        raise ValueError(
            f"panel {now.panel} has {now.num_tasks} tasks now and {before.num_tasks} in the other record, "
            "and not the same ones: one of the two is not complete"
        )
    place = {task: i for i, task in enumerate(before.by_task.tasks)}
    order = [place[task] for task in now.by_task.tasks]
    found: dict[str, list[Estimate]] = {}
    for kind, values in asdict(now.by_task).items():
        if kind == "tasks":
            continue
        a, b = np.array(values, np.float64), np.array(getattr(before.by_task, kind), np.float64)[order]
        K = min(a.shape[1], b.shape[1])
        if K:
            found[kind] = [difference(a[:, k] - b[:, k]) for k in range(K)]
    return found
