"""Mismatch: how far the sampler's log-probabilities are from the trainer's, as a run's record keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from lamer_fast.learn.ranks import Ranks


@dataclass(frozen=True)
class Mismatch:
    """Gap between the log-probabilities of the sampled tokens, d = trainer - sampler."""

    mean: float = 0.0  # of |d|, nats
    max: float = 0.0  # of |d|, nats
    k3: float = 0.0  # mean of exp(d) - 1 - d, an estimate of KL(sampler || trainer), nats
    ess: float = 1.0  # effective sample size of the weights exp(d), as a share of the tokens

    @classmethod
    def of(cls, pairs: Iterable[tuple[Tensor, Tensor]], ranks: Ranks | None = None) -> Mismatch:
        """From (trainer, sampler) log-probabilities, [L] each: this rank's; the result is that of all."""
        import torch  # a record is read where nothing is computed

        gaps = [trainer.double() - sampler.double() for trainer, sampler in pairs]
        d = torch.cat(gaps) if gaps else torch.zeros(0, dtype=torch.float64)
        w = d.exp()
        parts = torch.stack([d.abs().sum(), (w - 1 - d).sum(), w.sum(), (w * w).sum()]).tolist()
        own = [d.numel(), float(d.abs().max()) if len(d) else 0.0, *parts]
        found = ranks.gather(own) if ranks is not None else [own]
        count, _, gap, k3, weights, squares = (sum(values) for values in zip(*found, strict=True))
        if count == 0:
            return cls()
        largest = float(np.max([values[1] for values in found]))  # nan where one is, unlike Python's
        try:
            ess = weights**2 / (count * squares)
        except (OverflowError, ZeroDivisionError):  # weights beyond what a float holds
            ess = math.nan
        return cls(gap / count, largest, k3 / count, ess)
