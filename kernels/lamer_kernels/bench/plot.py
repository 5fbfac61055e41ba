"""Curves over size from the rows of a benchmark, PNG and SVG; needs matplotlib."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .harness import Row
from .record import SIZES, size_of

Curves = dict[str, list[tuple[float, float, float, float]]]  # provider -> (size, p20, p50, p80), by size


def check_can_plot() -> None:
    """Raises: ValueError: matplotlib is absent; the message says what to install."""
    if find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install matplotlib, or the extra lamer-kernels[bench]")


def panels(rows: Sequence[Row]) -> dict[tuple[str, str, str], Curves]:
    """(metric, unit, everything of the case but its size) -> curves: what differs in anything else never
    shares a curve."""
    found: dict[tuple[str, str, str], Curves] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        size = size_of(row.case)
        if size is None or row.p50 is None or row.p20 is None or row.p80 is None:
            continue
        rest = ", ".join(f"{k} {v}" for k, v in row.case.items() if k != size)
        panel = found[f"{row.metric} {row.mode}".strip(), row.unit, f"{rest}\n{SIZES[size]}"]
        panel[row.provider].append((float(row.case[size]), row.p20, row.p50, row.p80))
    return {key: {name: sorted(points) for name, points in curves.items()} for key, curves in found.items()}


def write_plots(title: str, env: dict[str, Any], rows: Sequence[Row], stem: Path) -> list[Path]:
    """STEM.png and STEM.svg: a panel for each metric and configuration, a curve for each provider.

    Raises:
        ValueError: no row has a size.
    """
    check_can_plot()
    import matplotlib

    matplotlib.use("Agg")  # no screen
    from matplotlib import pyplot

    found = panels(rows)
    if not found:
        raise ValueError(f"nothing to plot: no row of {title} has a size ({json.dumps(SIZES)})")
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(5 * columns, 3.6 * lines), squeeze=False)
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, ((metric, unit, rest), curves) in zip(axes.flat, found.items(), strict=False):
        for provider, points in curves.items():
            sizes, low, middle, high = zip(*points, strict=True)
            style = "--" if provider == "roofline" else "o-"
            (line,) = axis.plot(sizes, middle, style, label=provider, markersize=4)
            axis.fill_between(sizes, low, high, alpha=0.2, color=line.get_color())
        config, _, label = rest.rpartition("\n")
        axis.set(xlabel=label, ylabel=f"{metric}, {unit}", xscale="log", ylim=(0, None))
        axis.set_title(config, fontsize=9)
        axis.legend(fontsize=7)
    commit = env["commit"] or f"version {env['versions']['lamer-kernels']}"
    figure.suptitle(f"{title} on {env['device']}\n{commit}, {env['date'][:10]}", fontsize=10)
    figure.tight_layout()
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return paths
