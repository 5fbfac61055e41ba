"""Evaluations as plain text, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lamer_fast.eval.intervals import Estimate
from lamer_fast.eval.success import Evaluation
from lamer_fast.text import one_line

KINDS = {"trial": "trials", "independent": "independent attempts"}
TROUBLE = {"cut": "replies cut", "empty": "replies empty", "retries": "requests made again"}
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
    width = max(len(name) for name in evaluations) + len(": independent attempts")  # the longest
    lines.append(_head(width, max(e.episodes for e in evaluations.values())))
    for name, e in evaluations.items():
        lines += [_row(width, f"{name}: {words}", getattr(e, kind)) for kind, words in KINDS.items()]
        lines += [_row(width, f"{name}: regret to the bound", e.regret)]
        if e.bound:
            cells = "".join(f"{100 * share:>{WIDTH}.1f}" for share in e.bound)
            lines.append(f"{f'{name}: bound of any player':<{width}}{cells}")
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


def cost_table(
    evaluations: Mapping[str, Evaluation], price: Callable[[Mapping[str, float]], float | None]
) -> str:
    """Tokens per success of each policy or panel and way of playing; `price` of what was used, if known."""
    lines = []
    for name, e in evaluations.items():
        for kind, words in KINDS.items():
            used = (e.usage or {}).get(kind)
            if not used or not used["requests"]:
                continue
            per_task = 1 if kind == "trial" else len(e.independent)
            shares = [estimate.mean for estimate in getattr(e, kind)]
            solved = round((shares[-1] if kind == "trial" else shares[0]) * e.num_tasks * per_task)
            tokens = f"{_each(used, 'prompt', solved)} prompt ({_each(used, 'cached', solved)} cached), "
            tokens += f"{_each(used, 'completion', solved)} completion"
            what = "tokens per success" if solved else "tokens in all, no success"
            line = f"{one_line(name, NAME)}: {words}: {solved} solved; {what}: {tokens}"
            spent = price(used)
            if spent is not None:
                line += f"; price {spent:,.4g}" + (f", {spent / solved:,.4g} per success" if solved else "")
            if used["uncounted"]:
                line += (
                    f"; {used['uncounted']:.0f} of {used['requests']:.0f} answers without a count of tokens"
                )
            lines.append(line + _trouble(used))
    return "\n".join(lines)


def _each(used: Mapping[str, float], name: str, solved: int) -> str:
    return f"{used[name] / max(1, solved):,.0f}"


def _trouble(used: Mapping[str, float]) -> str:
    found = [f"{used[name]:.0f} {words}" for name, words in TROUBLE.items() if used[name]]
    waited = f" ({used['waited_s']:.0f} s of waiting)" if used["retries"] else ""
    return f"; {', '.join(found)}{waited}" if found else ""


def _head(width: int, K: int) -> str:
    return f"{'':<{width}}" + "".join(f"{f'success@{k}':>{WIDTH}}" for k in range(1, K + 1))


def _row(width: int, name: str, estimates: list[Estimate]) -> str:
    """Empty where there is nothing to show."""
    cells = "".join(f"{_interval(e):>{WIDTH}}" for e in estimates)
    return f"{name:<{width}}{cells}" if cells else ""


def _interval(e: Estimate) -> str:
    return f"{100 * e.mean:.1f} [{100 * e.low:.1f}, {100 * e.high:.1f}]"
