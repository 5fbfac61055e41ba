"""How well estimated advantages, and the gradients that they give, agree with the true ones, over boards.

Only advantages of two halves that share nothing, and gradients of two boards, are multiplied with each other:
the noise of the branches and of the drawn trials has no share in the mean of such a product. Errors are the
jackknife's over boards.

Axis letters: B boards, N turns of a board, D sums of a sketch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamer_fast.study.gradient.moments import Direction

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Products:
    """Means of products, by which all is measured: of the estimator's mean e, one estimate o, the truth t."""

    ee: Array  # [...]
    et: Array
    tt: Array
    oo: Array  # with the estimate's own noise

    def direction(self) -> Array:
        """[4, ...] scale, cosine, noise, mean cosine of one; NaN where a mean is no longer than its noise."""
        ee, tt = (np.where(x > 0, x, np.nan) for x in (self.ee, self.tt))
        cosine, one = self.et / np.sqrt(ee * tt), self.et / np.sqrt(np.maximum(self.oo, ee) * tt)
        return np.stack([self.et / tt, cosine, np.maximum(self.oo - ee, 0) / ee, one])


def jackknifed(products: Callable[[NDArray[np.bool_]], Products], boards: int) -> Direction:
    """`products(kept)`: of some boards, [B] True for each."""
    whole = products(np.ones(boards, bool)).direction()
    left = np.array([products(np.arange(boards) != b).direction() for b in range(boards)])
    errors = np.sqrt((boards - 1) / boards * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    scale, cosine, noise, one = whole.tolist()
    if np.isnan(errors[1]):
        cosine = noise = one = float("nan")
    cosine = float(np.clip(cosine, -1, 1))  # lengths are estimates too
    bias = float(np.sqrt(1 - cosine**2))
    return Direction(scale, float(errors[0]), cosine, float(errors[1]), bias, noise, one, float(errors[3]))


def of_advantages(said: Sequence[Array], as_played: Sequence[Array], true: Sequence[Array]) -> Direction:
    """Over all turns: `said` and `true` B of [N, 2] by halves, `as_played` B of [N]."""
    rows = [
        [(e[:, 0] @ e[:, 1]), (e[:, 0] @ t[:, 1] + e[:, 1] @ t[:, 0]) / 2, t[:, 0] @ t[:, 1], o @ o]
        for e, o, t in zip(said, as_played, true, strict=True)
    ]
    sums = np.array(rows)

    def products(kept: NDArray[np.bool_]) -> Products:
        ee, et, tt, oo = sums[kept].sum(axis=0)
        return Products(ee, et, tt, oo)

    return jackknifed(products, len(sums))


def of_gradients(mean: Array, as_played: Array, true: Array, groups: int) -> Direction:
    """Of updates of so many `groups`; each argument has a gradient for every board, [B, D]."""
    pairs = [a @ b.T for a, b in ((mean, mean), (mean, true), (true, true))]  # of [B, B]
    own = (as_played**2).sum(axis=1)

    def products(kept: NDArray[np.bool_]) -> Products:
        n = int(kept.sum())
        ee, et, tt = (
            np.asarray((x[np.ix_(kept, kept)].sum() - np.diag(x)[kept].sum()) / (n * (n - 1))) for x in pairs
        )
        return Products(ee, et, tt, ee + (own[kept].mean() - ee) / groups)  # noise of one group, over them

    return jackknifed(products, len(own))
