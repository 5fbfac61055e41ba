"""Distances of next-token distributions, a few rows at a time, and the tolerance that rounding explains."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lamer_fast.audit.replay import KINDS

# Plain torch in a dtype is some way from float64. A side rounds at other places, up to twice as far: so far
# apart are the errors of the decoder and of the Hugging Face module. There are two sides.
FACTOR = 4.0
MAX_VALUES = 1 << 23  # of one matrix of log-probabilities, float64: 64 MiB


def rows_at_a_time(num_ids: int) -> int:
    return max(1, MAX_VALUES // num_ids)


@dataclass
class Distance:
    """Over the places of one kind."""

    places: int = 0
    mean_kl: float = 0.0  # KL(sampler || trainer), nats
    max_kl: float = 0.0
    max_tv: float = 0.0  # total variation, 0..1
    max_gap: float = 0.0  # the largest |difference| of log-probabilities over all ids, nats

    def add(self, kl: Tensor, tv: Tensor, gap: Tensor) -> None:
        n = len(kl)
        self.mean_kl += (float(kl.mean()) - self.mean_kl) * n / (self.places + n)
        self.places += n
        self.max_kl = max(self.max_kl, float(kl.max()))
        self.max_tv = max(self.max_tv, float(tv.max()))
        self.max_gap = max(self.max_gap, float(gap.max()))


def distances(sampler: Tensor, trainer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(KL(sampler || trainer), total variation, largest gap) of log-probabilities [R, V], each [R] float64.

    Ids that only one side knows have no probability on the other.
    """
    p, q = (widened(x.double(), max(sampler.shape[1], trainer.shape[1])) for x in (sampler, trainer))
    both_out = p.isneginf() & q.isneginf()
    gap = torch.where(both_out, 0.0, p - q)
    weights = p.exp()
    kl = torch.where(weights > 0, weights * gap, 0.0).sum(-1)
    return (
        kl.clamp_min(0),
        (weights - q.exp()).abs().sum(-1) / 2,
        gap.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).amax(-1),
    )


def widened(x: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, width - x.shape[1]), value=-torch.inf)


@dataclass
class Comparison:
    """What is known of two sides while places come in."""

    kinds: dict[str, Distance] = field(default_factory=dict)
    yardstick: float = 0.0  # the largest gap of plain torch in the dtype against float64, nats
    largest_logit: float = 0.0
    gaps: list[tuple[int, int, float]] = field(default_factory=list)  # (replay, place, gap)

    def add(self, where: Sequence[tuple[int, int, str]], sampler: Tensor, trainer: Tensor) -> None:
        """where: (replay, place, kind) of each row."""
        kl, tv, gap = distances(sampler, trainer)
        for kind in KINDS:
            rows = [i for i, (_, _, k) in enumerate(where) if k == kind]
            if rows:
                self.kinds.setdefault(kind, Distance()).add(kl[rows], tv[rows], gap[rows])
        self.gaps += [(r, p, float(g)) for (r, p, _), g in zip(where, gap, strict=True)]

    def measure(self, plain: Tensor, exact: Tensor, largest_logit: float) -> None:
        """plain, exact: log-probabilities [R, V] in the dtype and in float64."""
        self.yardstick = max(self.yardstick, float((plain.double() - exact).abs().max()))
        self.largest_logit = max(self.largest_logit, largest_logit)

    def tolerance(self, dtype: torch.dtype) -> float:
        """Nats: FACTOR times what plain torch loses to float64, and one rounding of a logit on each side."""
        return FACTOR * self.yardstick + 2 * unit(dtype) * self.largest_logit


def unit(dtype: torch.dtype) -> float:
    """The most that one rounding changes a number, as a share of it."""
    return torch.finfo(dtype).eps / 2
