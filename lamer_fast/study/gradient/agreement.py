"""How well estimated advantages, and the gradients that they give, agree with those that are true.

Only halves that share nothing are multiplied with each other: the noise of the branches has no share in the
mean of such a product. Errors are the jackknife's over boards.

Axis letters: B boards, N turns of a board, D numbers of a gradient.
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
    """Of what an estimator says on average e, what it says as played o, and the truth t."""

    ee: float
    et: float
    tt: float
    oo: float  # with the noise of one estimate
    ot: float

    @classmethod
    def of(cls, e: Array, o: Array, t: Array) -> Products:
        """e and t [2, n] by halves, o [n]."""
        et = (e[0] @ t[1] + e[1] @ t[0]) / 2
        return cls(*map(float, (e[0] @ e[1], et, t[0] @ t[1], o @ o, o @ (t[0] + t[1]) / 2)))

    def measures(self) -> tuple[float, float, float, float]:
        """(scale, cosine, noise, one); NaN where a mean is no longer than its noise."""
        ee, tt, oo = (x if x > 0 else float("nan") for x in (self.ee, self.tt, self.oo))
        noise = max(self.oo - self.ee, 0.0) / ee
        return self.et / tt, self.et / (ee * tt) ** 0.5, noise, self.ot / (oo * tt) ** 0.5


def jackknifed(products: Callable[[NDArray[np.bool_]], Products], boards: int) -> Direction:
    """`products(kept)`: of some boards, [B] True for each."""
    scale, cosine, noise, one = products(np.ones(boards, bool)).measures()
    left = np.array([products(np.arange(boards) != b).measures() for b in range(boards)])
    errors = np.sqrt((boards - 1) / boards * ((left - left.mean(axis=0)) ** 2).sum(axis=0)).tolist()
    if np.isnan(errors[1]):
        cosine = noise = float("nan")
    cosine = float(np.clip(cosine, -1, 1))  # lengths are estimates too
    bias = float(np.sqrt(1 - cosine**2))
    return Direction(scale, errors[0], cosine, errors[1], bias, noise, one, errors[3])


def of_advantages(said: Sequence[Array], as_played: Sequence[Array], true: Sequence[Array]) -> Direction:
    """Over all turns: `said` and `true` B of [N, 2] by halves, `as_played` B of [N]."""
    each = [Products.of(e.T, o, t.T) for e, o, t in zip(said, as_played, true, strict=True)]
    sums = np.array([[p.ee, p.et, p.tt, p.oo, p.ot] for p in each])
    return jackknifed(lambda kept: Products(*sums[kept].sum(axis=0).tolist()), len(sums))


def of_gradients(said: Array, as_played: Array, true: Array) -> Direction:
    """Of an update by the turns of all boards: `said` and `true` [2, B, D] by halves, `as_played` [B, D]."""
    return jackknifed(
        lambda kept: Products.of(*(x[..., kept, :].sum(axis=-2) for x in (said, as_played, true))),
        len(as_played),
    )
