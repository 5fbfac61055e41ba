"""Mean, spread and direction of a random gradient against a true one, with errors by the jackknife.

Axis letters: J blocks of updates, D parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BLOCKS = 20  # of a measurement: errors are the jackknife's over them


@dataclass(frozen=True)
class Direction:
    """Of an estimator's update against a true gradient g. `_error` is one standard error.

    Cosine, bias and noise are NaN where the mean is no longer than its own noise: no direction is known.
    """

    scale: float  # <mean, g> / <g, g>: 1 where it is unbiased
    scale_error: float
    cosine: float  # of the mean of all updates and g
    cosine_error: float
    bias: float  # what of the mean is no multiple of g, as a share of its length
    noise: float  # variance of one update: E |update - mean|^2 / |mean|^2
    one: float  # mean cosine of one update and g
    one_error: float


class Moments:
    """Sums over blocks of updates; `references` are the true gradients that cosines are taken to."""

    def __init__(self, references: dict[str, Array]) -> None:
        self.references = {name: g.ravel() for name, g in references.items()}
        self.sums: list[Array] = []  # J of [D]
        self.squares: list[float] = []
        self.counts: list[int] = []
        self.cosines: dict[str, list[float]] = {name: [] for name in references}

    def add(self, updates: Array) -> None:
        """A block of updates [U, D]."""
        lengths = np.linalg.norm(updates, axis=1)
        self.sums.append(updates.sum(axis=0))
        self.squares.append(float((lengths**2).sum()))
        self.counts.append(len(updates))
        for name, g in self.references.items():
            cosines = updates @ g / np.maximum(lengths * np.linalg.norm(g), 1e-300)
            self.cosines[name].append(float(cosines.sum()))

    def mean(self) -> Array:
        return np.asarray(np.sum(self.sums, axis=0) / sum(self.counts))

    def direction(self, name: str) -> Direction:
        g = self.references[name]
        blocks = np.arange(len(self.counts))
        whole = self._measure(g, name, blocks)
        left = np.array([self._measure(g, name, blocks[blocks != j]) for j in blocks])
        J = len(blocks)
        errors = np.sqrt((J - 1) / J * ((left - left.mean(axis=0)) ** 2).sum(axis=0)).tolist()
        scale, cosine, noise, one = whole
        if np.isnan(errors[1]):  # all but one block know no direction: what the last one adds is no knowledge
            cosine = noise = float("nan")
        cosine = float(np.clip(cosine, -1, 1))  # the noise that is taken off is itself an estimate
        bias = float(np.sqrt(1 - cosine**2))
        return Direction(scale, errors[0], cosine, errors[1], bias, noise, one, errors[3])

    def _measure(self, g: Array, name: str, blocks: NDArray[np.int64]) -> tuple[float, float, float, float]:
        """(scale, cosine, noise, one) by some of the blocks.

        A mean over n updates is longer than the true mean by their noise: |mean|^2 has tr / n too much, tr
        the trace of the covariance, which is taken off. Where nothing is left no direction is known: NaN.
        """
        n = sum(self.counts[j] for j in blocks)
        mean = np.sum([self.sums[j] for j in blocks], axis=0) / n
        squares = sum(self.squares[j] for j in blocks) / n
        trace = (squares - float(mean @ mean)) * n / (n - 1)
        length = float(mean @ mean) - trace / n
        length = length if length > 0 else float("nan")
        along = float(mean @ g)
        norm = float(np.linalg.norm(g))
        one = sum(self.cosines[name][j] for j in blocks) / n
        cosine = along / (norm * length**0.5) if norm else 0.0
        return along / norm**2 if norm else 0.0, cosine, trace / length, one


def z_scores(found: Moments, g: Array) -> Array:
    """[D] of the mean against g, by the spread of the blocks; 0 where no update ever moves."""
    means = np.array(found.sums) / np.array(found.counts)[:, None]
    error = means.std(axis=0, ddof=1) / len(means) ** 0.5
    off = found.mean() - g.ravel()
    return np.asarray(np.divide(off, error, out=np.where(off == 0, 0.0, np.inf), where=error > 0))
