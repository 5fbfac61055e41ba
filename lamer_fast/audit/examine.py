"""One audit: distributions at every place, again after a weight transfer, and the walk where they part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lamer_fast.audit.distances import Comparison, Distance, rows_at_a_time
from lamer_fast.audit.reference import Reference
from lamer_fast.audit.replay import KINDS, TRANSFER, Replay
from lamer_fast.audit.sides import ReferenceSide, Side, walk_places
from lamer_fast.audit.walk import Finding, locate


@dataclass(frozen=True)
class Audit:
    kinds: dict[str, Distance]
    tolerance: float  # of the largest gap, nats
    yardstick: float  # what plain torch in the dtype loses to float64, nats
    dtype: str
    finding: Finding | None

    @property
    def ok(self) -> bool:
        return self.finding is None

    @property
    def max_gap(self) -> float:
        return max(distance.max_gap for distance in self.kinds.values())

    def __str__(self) -> str:
        head = ("place", "places", "mean KL", "max KL", "max TV", "max gap")
        lines = [f"{head[0]:<24}" + "".join(f"{word:>10}" for word in head[1:])]
        for kind, d in self.kinds.items():
            figures = (d.mean_kl, d.max_kl, d.max_tv, d.max_gap)
            lines.append(f"{kind:<24}{d.places:>10}" + "".join(f"{x:>10.1e}" for x in figures))
        lines.append(
            f"allowed gap {self.tolerance:.1e} nats: plain torch in {self.dtype} is up to "
            f"{self.yardstick:.1e} from float64 of the same weights"
        )
        lines.append(f"FAIL  {self.finding}" if self.finding else "sampler = trainer")
        return "\n".join(lines)


def examine(
    sampler: Side,
    trainer: Side,
    replays: Sequence[Replay],
    reference: Callable[[], Reference],
    *,
    num_ids: int,
    transfer: Callable[[], None] | None = None,
    together: bool = True,
) -> Audit:
    """Compares every place, then walks the layers: at the first place beyond the tolerance, or where there is
    none on the first replay, since a single operation shows what many roundings would hide.

    Args:
        reference: of the trainer's weights as they are now.
        transfer: gives both sides other weights.
        together: replays are played side by side, not one by one.
    """
    kinds: dict[str, Distance] = {}
    found: Finding | None = None
    comparison, model = Comparison(), reference()
    for phase in ("as it is", TRANSFER) if transfer else ("as it is",):
        if phase == TRANSFER:
            assert transfer is not None
            transfer()
            model, comparison = reference(), Comparison()
        plain, exact = (ReferenceSide(model, dtype) for dtype in (model.dtype, torch.float64))
        for where in walk_places(replays, rows_at_a_time(num_ids), together=together):
            named = [(r, place, phase if phase == TRANSFER else kind) for r, place, kind in where]
            comparison.add(named, sampler.at(replays, where).cpu(), trainer.at(replays, where).cpu())
            wanted = exact.at(replays, where)
            comparison.measure(plain.at(replays, where), wanted, exact.largest_logit)
        kinds |= comparison.kinds
        tolerance = comparison.tolerance(model.dtype)
        beyond = [(r, place) for r, place, gap in comparison.gaps if not gap <= tolerance]
        at = min(beyond, key=lambda pair: pair[1]) if beyond else None
        if found := locate((sampler, trainer), replays, at, model):
            break
    ordered = {kind: kinds[kind] for kind in KINDS if kind in kinds}
    return Audit(ordered, tolerance, comparison.yardstick, str(model.dtype)[6:], found)
