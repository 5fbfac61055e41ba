"""Figures of a study, by matplotlib where it is installed: PNG and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamer_fast.study.spec import Study
from lamer_fast.study.summary import Summary

SMOOTH = 5  # iterations that a point of a curve is the mean of


def draw(study: Study, found: Sequence[Summary], folder: Path) -> list[Path]:
    """Per part: training curves, and success@1..K of the trained policies. Without matplotlib nothing."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = study.name  # the same figure is the same file
    written = []
    for part in study.parts:
        own = [summary for summary in found if summary.part == part]
        if own:
            written += save(curves(part, own), folder / f"{part}-training")
            written += save(bars(part, own), folder / f"{part}-success")
    return written


def curves(part: str, own: Sequence[Summary]) -> Any:
    """success@K of the training trials: mean over seeds, the seeds behind it."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for summary in own:
        drawn = [r.curve for r in summary.results if r.curve]
        if not drawn:
            continue
        shortest = min(len(curve["iteration"]) for curve in drawn)
        x = np.array(drawn[0]["iteration"][:shortest])
        y = np.array([[at[-1] for at in curve["success_at"][:shortest]] for curve in drawn])
        y = 100 * np.stack([smooth(line) for line in y])
        (line,) = axes.plot(x, y.mean(axis=0), label=summary.arm.name)
        for seed in y:
            axes.plot(x, seed, color=line.get_color(), alpha=0.25, linewidth=0.8)
    axes.set(
        xlabel="iteration", ylabel="success within all episodes of a trial, %", title=f"{part}, training"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def bars(part: str, own: Sequence[Summary]) -> Any:
    from matplotlib import pyplot

    K = max(len(summary.within) for summary in own)
    figure, axes = pyplot.subplots(figsize=(max(6, 0.9 * len(own)), 4))
    places = np.arange(len(own))
    for k in range(K):
        at = [summary.within[min(k, len(summary.within) - 1)] for summary in own]
        means = np.array([100 * e.mean for e in at])
        errors = np.array([[100 * (e.mean - e.low) for e in at], [100 * (e.high - e.mean) for e in at]])
        axes.bar(
            places + (k - (K - 1) / 2) * 0.8 / K,
            means,
            0.8 / K,
            yerr=errors,
            capsize=2,
            label=f"success@{k + 1}",
        )
    axes.set_xticks(places, [summary.arm.name for summary in own], rotation=30, ha="right")
    axes.set(ylabel="test boards, %", title=f"{part}, 95 % intervals over seeds and boards")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def smooth(values: Any) -> Any:
    """Mean over the last SMOOTH values."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    index = np.arange(1, len(values) + 1)
    first = np.maximum(0, index - SMOOTH)
    return (total[index] - total[first]) / (index - first)


def save(figure: Any, stem: Path) -> list[Path]:
    from matplotlib import pyplot

    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in paths:
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return paths
