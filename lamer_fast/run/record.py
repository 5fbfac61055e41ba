"""Record: what one iteration leaves in metrics.jsonl, and what is shown of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from lamer_fast.learn.mismatch import Mismatch
from lamer_fast.strict_json import finite

if TYPE_CHECKING:
    from lamer_fast.eval.success import Evaluation

RENAMED = {"return_": "return"}  # field -> key in JSON


@dataclass(frozen=True)
class Tokens:
    prompt: int
    sampled: int
    trained: int


@dataclass(frozen=True)
class Counters:
    turns: int
    invalid: int  # turns whose reply could not be parsed
    truncated: int
    failed_trials: int  # by their environment
    groups_dropped: int  # too few trials were left to compare
    updates: int
    updates_empty: int
    updates_skipped: int


@dataclass(frozen=True)
class Evaluated:
    """success@1..K with 95 % intervals, of trials and of independent attempts, on held-out boards.

    The first runs kept no intervals: then they are None.
    """

    iteration: int  # iterations that the policy was trained for: 0 is the policy before training
    tasks: int
    panel: str
    success_at: list[float]
    success_low: list[float] | None
    success_high: list[float] | None
    independent: list[float]
    independent_low: list[float] | None
    independent_high: list[float] | None

    @classmethod
    def of(cls, iteration: int, found: Evaluation) -> Evaluated:
        trial, independent = found.trial, found.independent
        return cls(
            iteration,
            found.num_tasks,
            found.panel,
            [e.mean for e in trial],
            [e.low for e in trial],
            [e.high for e in trial],
            [e.mean for e in independent],
            [e.low for e in independent],
            [e.high for e in independent],
        )


@dataclass(frozen=True)
class Record:
    """Means are over the updates of the iteration unless said. `measure.py` makes it."""

    iteration: int
    success_at: list[float]  # of the training trials as they were drawn, k = 1..K
    return_: float  # mean sum of rewards of a trial
    advantage_abs: float  # mean over turns
    loss: float
    entropy: float  # nats
    clipped: float  # share of tokens
    kl: float  # nats, from the reference
    mismatch: Mismatch
    grad_norm: float  # before clipping
    lr: float  # of the last update
    tokens: Tokens
    counters: Counters
    seconds: dict[str, float]  # by phase; least_*: what the device would need
    others: dict[
        str, float
    ]  # NAME_loss, NAME_grad_norm of each trainable beside the policy; of its critic too; groups_*: Draws;
    # consolidation_loss, consolidated (trials of it)
    independent: list[float] | None = None  # K independent attempts on the same boards: see `first_attempts`
    eval_before: Evaluated | None = None  # of the policy before training, in the first record
    eval: Evaluated | None = None  # of the policy after this iteration

    @property
    def score(self) -> float:
        """What the best checkpoint is judged by: the evaluation of this iteration, or its training trials."""
        judged = self.success_at if self.eval is None else self.eval.success_at
        return judged[-1]

    @property
    def evaluations(self) -> list[Evaluated]:
        """Those that were made: before training, and after this iteration."""
        return [found for found in (self.eval_before, self.eval) if found is not None]

    def to_json(self) -> dict[str, Any]:
        """A line of metrics.jsonl: an evaluation that was not made has no key, a number that is not finite is
        null."""
        values: dict[str, Any] = finite(_without_none(asdict(self)))
        others: dict[str, float] = values.pop("others")
        return {RENAMED.get(k, k): value for k, value in values.items()} | others

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record:
        """Inverse of `to_json`, for lines of every version; null becomes NaN.

        Raises:
            ValueError: something is missing, or no record at all; names it.
        """
        if not isinstance(line, Mapping):
            raise ValueError(f"a record is a JSON object, got {type(line).__name__}")
        own = {RENAMED.get(f.name, f.name): f.name for f in fields(cls)}
        values: dict[str, Any] = {own[key]: value for key, value in line.items() if key in own}
        others = {key: value for key, value in line.items() if key not in own}
        values["others"] = {key: math.nan if value is None else value for key, value in others.items()}
        for name, part in (("mismatch", Mismatch), ("tokens", Tokens), ("counters", Counters)):
            values[name] = _part(part, values.get(name), name)
        trained = {"eval_before": 0, "eval": 1 + values.get("iteration", 0)}
        for name in trained.keys() & values.keys():
            values[name] = _part(Evaluated, OLDEST | {"iteration": trained[name]} | values[name], name)
        found: Record = _part(cls, values, "record")
        return found


# what evaluations of the first versions did not keep
OLDEST: dict[str, Any] = {
    "tasks": 0, "panel": "", "success_low": None, "success_high": None, "independent_low": None,
    "independent_high": None,
}  # fmt: skip


def _part(cls: Any, values: Any, name: str) -> Any:
    """An object of the dataclass `cls`; keys that it has no field for are of a later version."""
    if not isinstance(values, Mapping):
        raise ValueError(f"record lacks {name}")
    known = {f.name for f in fields(cls)}
    missing = [f.name for f in fields(cls) if f.name not in values and f.default is MISSING]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(RENAMED.get(m, m) for m in missing)}")
    unknown = {f.name: math.nan for f in fields(cls) if f.type == "float" and values.get(f.name, 0) is None}
    return cls(**{key: value for key, value in values.items() if key in known} | unknown)


def _without_none(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_none(value) for key, value in values.items() if value is not None}
    return values
