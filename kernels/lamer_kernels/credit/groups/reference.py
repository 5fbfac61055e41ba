"""Reference: the definition of the op. A unit of a group weighs 1, shared evenly by its rows."""

import torch
from torch import Tensor

from ..anchors.reference import pair_ids_ref


def group_advantages_ref(
    scores: Tensor,
    group: Tensor,
    trial: Tensor | None,
    episode: Tensor | None,
    include: Tensor | None,
    stats_unit: str,
    baseline: str,
    scale: str,
    singleton: str,
    eps: float,
) -> Tensor:
    out = torch.zeros_like(scores)
    rows = torch.arange(len(scores), device=scores.device) if include is None else include.nonzero()[:, 0]
    if len(rows) == 0:
        return out
    s = scores[rows]
    g = pair_ids_ref(group[rows], torch.zeros_like(rows))
    unit = _units(g, rows, trial, episode, stats_unit)
    num_groups, num_units = int(g.max()) + 1, int(unit.max()) + 1

    # distances from the group's least score: equal scores then give exact zeros
    low = s.new_full((num_groups,), float("inf")).scatter_reduce(0, g, s, "amin")
    d = s - low[g]
    share = 1 / s.new_zeros(num_units).index_add(0, unit, torch.ones_like(s))[unit]
    group_of_unit = torch.zeros_like(unit[:num_units]).scatter(0, unit, g)
    n = s.new_zeros(num_groups).index_add(0, group_of_unit, s.new_ones(num_units))[g]
    total = s.new_zeros(num_groups).index_add(0, g, share * d)[g]
    own = s.new_zeros(num_units).index_add(0, unit, share * d)[unit]

    mean = total / n
    others = (n - 1).clamp(min=1)
    advantages = d - ((total - own) / others if baseline == "leave_one_out" else mean)
    # of one score that is not finite the others would be infinitely far
    advantages = torch.where(total.isfinite(), advantages, float("nan"))
    if singleton == "zero":
        advantages = torch.where(n > 1, advantages, 0)
    else:
        advantages = torch.where(n > 1, advantages, s)
    if scale == "std":
        variance = s.new_zeros(num_groups).index_add(0, g, share * (d - mean) ** 2)[g] / others
        advantages = torch.where(n > 1, divide(advantages, variance, eps), advantages)
    elif scale == "batch_std":
        advantages = divide(advantages, (share * advantages**2).sum() / max(num_units - 1, 1), eps)
    return out.index_copy(0, rows, advantages)


def _units(g: Tensor, rows: Tensor, trial: Tensor | None, episode: Tensor | None, stats_unit: str) -> Tensor:
    if stats_unit == "turn":
        return torch.arange(len(rows), device=rows.device)
    assert trial is not None
    unit = pair_ids_ref(g, trial[rows])
    if stats_unit == "trial":
        return unit
    assert episode is not None
    return pair_ids_ref(unit, episode[rows])


def divide(x: Tensor, variance: Tensor, eps: float) -> Tensor:
    """x / (std + eps); 0 where x or the divisor is 0, NaN where the variance overflows."""
    deviation = torch.where(variance.isinf(), float("nan"), variance.sqrt() + eps)
    return torch.where((x == 0) | (deviation == 0), 0, x / deviation)
