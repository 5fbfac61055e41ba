"""group_advantages: contract, checks and registration."""

from typing import Literal

import torch
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import FLOAT_DTYPES, INT_DTYPES, as_floats, as_mask, check_choice, check_tensor
from ..._core.dispatch import Backend, resolve_backend
from ..._core.namespace import qualified
from ..._core.numbers import check_number
from .reference import group_advantages_ref

STATS_UNITS = ("trial", "episode", "turn")
BASELINES = ("mean", "leave_one_out")
SCALES = ("none", "std", "batch_std")


@accepts_numpy
def group_advantages(
    scores: Tensor,
    group: Tensor,
    *,
    trial: Tensor | None = None,
    episode: Tensor | None = None,
    include: Tensor | None = None,
    stats_unit: Literal["trial", "episode", "turn"] = "turn",
    baseline: Literal["mean", "leave_one_out"] = "mean",
    scale: Literal["none", "std", "batch_std"] = "none",
    singleton: Literal["zero", "score"] = "zero",
    eps: float = 1e-6,
    backend: Backend = "auto",
) -> Tensor:
    """Score of each row minus the baseline of its group, over a deviation.

    A *unit* (a row, an episode or a trial) weighs 1 however many rows it has: with n units in a group and n_u
    rows in a unit, a row weighs ``w = 1 / n_u``, and

        mean           b_i = sum_j w_j S_j / n                           over the rows j of the group
        leave_one_out  b_i = sum_j w_j S_j / (n - 1)                     over the rows j of the other units
        none           A_i = S_i - b_i
        std            A_i = (S_i - b_i) / (std + eps)     std^2 = sum_j w_j (S_j - mean)^2 / (n - 1)
        batch_std      A_i = (S_i - b_i) / (std + eps)     std^2 = sum_j w_j (S_j - b_j)^2 / (all units - 1)

    | estimator            | baseline      | scale     |
    |----------------------|---------------|-----------|
    | GRPO                 | mean          | std       |
    | Dr. GRPO             | mean          | none      |
    | RLOO                 | leave_one_out | none      |
    | REINFORCE++-baseline | mean          | batch_std |
    | REINFORCE++          | mean, with one group for the whole batch | std |

    A score that is not finite, or squares that overflow, make the group NaN (under batch_std the batch).
    A group whose scores are all equal gives exactly 0, and so does one whose deviation + eps is 0 (eps = 0,
    differences below 1e-162 that square to 0). So does a group of one unit (nothing to compare with);
    ``singleton="score"`` keeps its raw score instead, as GRPO's and GiGPO's released code does.

    Args:
        scores: [R] float32 or float64; integers count as float64.
        group: [R] integer, any values.
        trial: [R] integer, needed by ``stats_unit`` trial and episode.
        episode: [R] integer, needed by ``stats_unit`` episode; counts within its trial.
        include: [R] bool, or integers 0 and 1. Rows that are not included enter no statistic and get 0.
        eps: added to the deviation.

    Returns:
        [R] in the dtype of ``scores``, computed in float64. Not differentiable.

    Raises:
        ValueError, TypeError: a shape, dtype, device or switch is wrong; the message names it.
    """
    (scores,) = as_floats(scores)
    check_tensor("scores", scores, shape=(None,), dtypes=FLOAT_DTYPES)
    include = None if include is None else as_mask("include", include)
    for name, x, dtypes in (
        ("group", group, INT_DTYPES),
        ("trial", trial, INT_DTYPES),
        ("episode", episode, INT_DTYPES),
        ("include", include, (torch.bool,)),
    ):
        if x is not None or name == "group":
            check_tensor(name, x, shape=tuple(scores.shape), dtypes=dtypes, like=scores)
    eps = check_statistics(stats_unit, baseline, scale, eps)
    check_choice("singleton", singleton, ("zero", "score"))
    if stats_unit != "turn" and trial is None:
        raise ValueError(f"stats_unit {stats_unit!r} needs trial, got None")
    if stats_unit == "episode" and episode is None:
        raise ValueError("stats_unit 'episode' needs episode, got None")
    resolved = resolve_backend(backend, scores.device, cpu_needs_numba=True, rows=len(scores))
    out: Tensor = group_op(
        scores, group, trial, episode, include, stats_unit, baseline, scale, singleton, eps, resolved
    )
    return out


def check_statistics(stats_unit: str, baseline: str, scale: str, eps: float) -> float:
    check_choice("stats_unit", stats_unit, STATS_UNITS)
    check_choice("baseline", baseline, BASELINES)
    check_choice("scale", scale, SCALES)
    return check_number("eps", eps, "[0, inf)")


@torch.library.custom_op(qualified("group_advantages"), mutates_args=())
def group_op(
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
    backend: str,
) -> Tensor:
    if backend == "reference":
        args = (group, trial, episode, include, stats_unit, baseline, scale, singleton, eps)
        return group_advantages_ref(scores.double(), *args).to(scores.dtype)
    if backend == "triton":
        from . import gpu

        return gpu.group_advantages(
            scores, group, trial, episode, include, stats_unit, baseline, scale, singleton, eps
        )
    from . import cpu

    integers = [None if x is None else x.long().contiguous().numpy() for x in (group, trial, episode)]
    mask = None if include is None else include.contiguous().numpy()
    columns = [scores.detach().double().contiguous().numpy(), *integers, mask]
    out = cpu.run(columns, stats_unit, baseline, scale, singleton, eps)
    return torch.from_numpy(out).to(scores.dtype)


@group_op.register_fake
def _(
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
    backend: str,
) -> Tensor:
    return scores.new_empty(scores.shape)
