"""Figures of a study, by matplotlib where it is installed: PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.eval.intervals import Estimate
from lamer_fast.files import writing
from lamer_fast.study.measures import KINDS
from lamer_fast.study.spec import Study
from lamer_fast.study.summary import Summary

SMOOTH = 5  # iterations that a point of a curve is the mean of
OF_NOTES = {
    "note_words": "words of a note",
    "note_new": "share never written before",
    "note_true": "share of true statements",
}


def draw(study: Study, found: Sequence[Summary], folder: Path) -> list[Path]:
    """Per part: training curves, success@1..K, what else the study measures; nothing without matplotlib."""
    if pyplot_of(study.name) is None:
        return []
    written = []
    for part in study.parts:
        own = [summary for summary in found if summary.part == part]
        if own:
            if any(result.curve for summary in own for result in summary.results):
                written += save(curves(part, own), folder / f"{part}-training")
            written += save(bars(part, own), folder / f"{part}-success")
            if any(summary.regret for summary in own):
                written += save(regret(part, own), folder / f"{part}-regret")
            for kind in study.measures:
                written += save(measures(kind, part, own), folder / f"{part}-{kind}")
            if any(result.notes for summary in own for result in summary.results):
                written += save(notes(part, own), folder / f"{part}-notes-training")
    return written


def pyplot_of(name: str) -> Any:
    """matplotlib.pyplot, which draws to files; None where it is not installed. `name` is the study's."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = name  # the same figure is the same file
    from matplotlib import pyplot

    return pyplot


def curves(part: str, own: Sequence[Summary]) -> Any:
    """success@K of the training trials: mean over seeds, the seeds behind it."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for summary in own:
        drawn = [r.curve for r in summary.results if r.curve]
        if not drawn:
            continue
        shortest = min(len(curve["iteration"]) for curve in drawn)
        y = np.array([[at[-1] for at in curve["success_at"][:shortest]] for curve in drawn], np.float64)
        lines(axes, drawn[0]["iteration"][:shortest], 100 * y, summary.arm.name)
    axes.set(
        xlabel="iteration", ylabel="success within all episodes of a trial, %", title=f"{part}, training"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    return figure


def bars(part: str, own: Sequence[Summary]) -> Any:
    """success@1..K by arm; an arm of fewer episodes repeats its last."""
    from matplotlib import pyplot

    K = max(len(summary.within) for summary in own)
    figure, axes = pyplot.subplots(figsize=(max(6, 0.9 * len(own)), 4))
    within = {f"success@{k + 1}": [s.within[min(k, len(s.within) - 1)] for s in own] for k in range(K)}
    grouped(axes, [summary.arm.name for summary in own], within, 100.0)
    axes.set(ylabel="test boards, %", title=f"{part}, 95 % intervals over seeds and boards")
    axes.legend(fontsize=8, loc="upper left")
    return figure


def regret(part: str, own: Sequence[Summary]) -> Any:
    """What is left of the bound at 1..K episodes, by arm."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(max(6, 0.9 * len(own)), 4))
    K = max(len(summary.regret) for summary in own)
    at = {f"regret@{k + 1}": [s.regret[k] if k < len(s.regret) else None for s in own] for k in range(K)}
    grouped(axes, [summary.arm.name for summary in own], at, 100.0)
    axes.set(ylabel="points below the best explorer", title=f"{part}, 95 % intervals over seeds and boards")
    axes.legend(fontsize=8, loc="upper left")
    return figure


def measures(kind: str, part: str, own: Sequence[Summary]) -> Any:
    """A panel for each measure of `kind`: mean and 95 % interval by arm, a bar for each mode."""
    from matplotlib import pyplot

    arms = [summary.arm.name for summary in own]
    modes = list(dict.fromkeys(mode for summary in own for mode in summary.measures))
    names = KINDS[kind]
    width = max(3.5, 0.3 * len(arms) * len(modes))
    figure, panels = pyplot.subplots(1, len(names), figsize=(width * len(names), 4), squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        grouped(axes, arms, {mode: [s.measures.get(mode, {}).get(name) for s in own] for mode in modes})
        axes.set(title=name)
    if len(modes) > 1:
        panels[0][0].legend(fontsize=8, loc="upper left")
    figure.suptitle(f"{part}, {kind} on the test boards, 95 % intervals over seeds and boards")
    return figure


def notes(part: str, own: Sequence[Summary]) -> Any:
    """Reflections over training: length, novelty and truth; mean over seeds, the seeds behind it."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(OF_NOTES), figsize=(4.5 * len(OF_NOTES), 4))
    for axes, (name, meaning) in zip(panels, OF_NOTES.items(), strict=True):
        for summary in own:
            drawn = [result.notes for result in summary.results if result.notes]
            if drawn:
                shortest = min(len(curve["iteration"]) for curve in drawn)
                y = np.array([curve[name][:shortest] for curve in drawn], np.float64)
                lines(axes, drawn[0]["iteration"][:shortest], y, summary.arm.name)
        axes.set(xlabel="iteration", title=meaning)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8, loc="upper left")
    figure.suptitle(f"{part}, reflections of the training trials")
    return figure


def grouped(
    axes: Any, names: Sequence[str], series: Mapping[str, Sequence[Estimate | None]], scale: float = 1.0
) -> None:
    """Bars with their intervals: a group for each name, in it a bar of each series; None is left out."""
    width = 0.8 / max(1, len(series))
    for i, (label, estimates) in enumerate(series.items()):
        there = [(place, e) for place, e in enumerate(estimates) if e is not None]
        places = np.array([place for place, _ in there]) + (i - (len(series) - 1) / 2) * width
        means = np.array([scale * e.mean for _, e in there])
        ends = [[scale * (e.mean - e.low) for _, e in there], [scale * (e.high - e.mean) for _, e in there]]
        axes.bar(places, means, width, yerr=np.array(ends), capsize=2, label=label)
    axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
    axes.grid(axis="y", alpha=0.3)


def lines(axes: Any, x: Sequence[int], by_seed: NDArray[np.float64], label: str) -> None:
    """The mean over seeds [seeds, iterations], smoothed, and each seed behind it."""
    smoothed = np.stack([smooth(line) for line in by_seed])
    (line,) = axes.plot(x, smoothed.mean(axis=0), label=label)
    for seed in smoothed:
        axes.plot(x, seed, color=line.get_color(), alpha=0.25, linewidth=0.8)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last SMOOTH values, of those that are there: an iteration without notes is NaN."""
    found = np.full(len(values), np.nan)
    for i in range(len(values)):
        near = values[max(0, i + 1 - SMOOTH) : i + 1]
        if not np.isnan(near).all():
            found[i] = np.nanmean(near)
    return found


def save(figure: Any, stem: Path) -> list[Path]:
    from matplotlib import pyplot

    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in paths:
        with writing(path):
            figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return paths
