"""gigpo_advantages: two brackets from ready scores and returns, a sum of two other ops."""

from functools import partial

from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import FLOAT_DTYPES, as_floats, check_choice, check_tensor
from ..._core.dispatch import Backend
from ..._core.numbers import check_number
from ..anchors import anchor_groups
from ..groups import group_advantages
from ..switches import Baseline, Scale, StatsUnit


@accepts_numpy
def gigpo_advantages(
    scores: Tensor,
    returns: Tensor,
    group: Tensor,
    anchors: Tensor,
    *,
    trial: Tensor | None = None,
    episode: Tensor | None = None,
    stats_unit: StatsUnit = "turn",
    baseline: Baseline = "mean",
    scale: Scale = "none",
    w: float = 1.0,
    eps: float = 1e-6,
    backend: Backend = "auto",
) -> Tensor:
    """GiGPO: episode bracket of the scores + w x step bracket of the returns.

    Both brackets are ``group_advantages`` with the same ``baseline`` and ``scale``. The first is taken over
    ``group`` with ``stats_unit``; the second over the turns of a group that share an anchor, each weighing 1.
    A group of one unit, and a step group of one turn, give 0.

    Args:
        scores: [R] float32 or float64 (integers count as float64), the episode's score on each of its turns.
        returns: [R] dtype of ``scores``, the return of each turn.
        group, trial, episode: [R] integer, as in ``group_advantages``.
        anchors: [R] int64, as in ``anchor_groups``.
        w: weight of the step bracket, >= 0.

    Returns:
        [R] in the dtype of ``scores``. Not differentiable.
    """
    check_choice("scale", scale, ("none", "std"))
    w = check_number("w", w, "[0, inf)")
    scores, returns = as_floats(scores, returns)
    check_tensor("scores", scores, shape=(None,), dtypes=FLOAT_DTYPES)
    check_tensor("returns", returns, shape=tuple(scores.shape), dtypes=(scores.dtype,), like=scores)
    step_group = anchor_groups(group, anchors, backend=backend)
    statistics = partial(group_advantages, baseline=baseline, scale=scale, eps=eps, backend=backend)
    episode_bracket = statistics(scores, group, trial=trial, episode=episode, stats_unit=stats_unit)
    return episode_bracket + w * statistics(returns, step_group)
