"""Mismatch: how far the sampler's log-probabilities are from the trainer's, as a run's record keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mismatch:
    """Gap between the log-probabilities of the sampled tokens, d = trainer - sampler."""

    mean: float = 0.0  # of |d|, nats
    max: float = 0.0  # of |d|, nats
    k3: float = 0.0  # mean of exp(d) - 1 - d, an estimate of KL(sampler || trainer), nats
    ess: float = 1.0  # effective sample size of the weights exp(d), as a share of the tokens

    @classmethod
    def of(cls, pairs: Iterable[tuple[Tensor, Tensor]]) -> Mismatch:
        """From (trainer, sampler) log-probabilities, [L] each."""
        import torch  # a record is read where nothing is computed

        gaps = [trainer.double() - sampler.double() for trainer, sampler in pairs]
        if not gaps or sum(g.numel() for g in gaps) == 0:
            return cls()
        d = torch.cat(gaps)
        w = d.exp()
        ess = w.sum() ** 2 / (d.numel() * (w * w).sum())
        values = torch.stack([d.abs().mean(), d.abs().max(), (w - 1 - d).mean(), ess]).tolist()
        return cls(*values)
