"""Evaluations as plain text, side by side."""

from __future__ import annotations

from collections.abc import Mapping

from lamer_fast.eval.intervals import Estimate
from lamer_fast.eval.success import Evaluation
from lamer_fast.text import one_line

KINDS = {"trial": "trials", "independent": "independent attempts"}
WIDTH = 20  # of a column
NAME = 80  # characters of a policy's name


def table(evaluations: Mapping[str, Evaluation]) -> str:
    """One line per policy or panel and way of playing, in percent with 95 % intervals."""
    evaluations = {one_line(name, NAME): e for name, e in evaluations.items()}
    panels: dict[str, list[str]] = {}
    for name, e in evaluations.items():
        what = f"{e.num_tasks} distinct boards of split {e.split!r}, panel {e.panel}"
        panels.setdefault(what, []).append(name)
    lines = list(panels)
    if len(panels) > 1:
        lines = [f"{', '.join(names)}: {what}" for what, names in panels.items()]
    width = max(len(name) for name in evaluations) + len(": independent attempts")
    lines.append(_head(width, max(e.episodes for e in evaluations.values())))
    for name, e in evaluations.items():
        lines += [_row(width, f"{name}: {words}", getattr(e, kind)) for kind, words in KINDS.items()]
    lines = [line for line in lines if line]
    for name, e in evaluations.items():
        if gain := e.gain_over_independent:
            lines.append(
                f"{name}: success@{len(e.trial)} - success@1 exceeds that of independent attempts by "
                f"{_interval(gain)} points"
            )
        if e.lost:
            lines.append(
                f"{name}: {e.lost} trials and attempts failed for no fault of the policy, not solved"
            )
    return "\n".join(lines)


def difference_table(name: str, other: str, found: Mapping[str, Mapping[str, list[Estimate]]]) -> str:
    """`found`: panel -> kind -> differences of success@k, of policy `name` minus policy `other`."""
    rows = {
        f"{panel}: {words}" if panel else words: estimates[kind]
        for panel, estimates in found.items()
        for kind, words in KINDS.items()
        if kind in estimates
    }
    width = max(map(len, rows))
    head = f"{one_line(name, NAME)} minus {one_line(other, NAME)}, paired by task, points"
    K = max(len(row) for row in rows.values())
    return "\n".join([head, _head(width, K), *(_row(width, key, row) for key, row in rows.items())])


def _head(width: int, K: int) -> str:
    return f"{'':<{width}}" + "".join(f"{f'success@{k}':>{WIDTH}}" for k in range(1, K + 1))


def _row(width: int, name: str, estimates: list[Estimate]) -> str:
    """Empty where there is nothing to show."""
    cells = "".join(f"{_interval(e):>{WIDTH}}" for e in estimates)
    return f"{name:<{width}}{cells}" if cells else ""


def _interval(e: Estimate) -> str:
    return f"{100 * e.mean:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"
