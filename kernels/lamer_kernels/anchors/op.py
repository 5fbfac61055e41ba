"""anchor_groups, gigpo_advantages: contracts, checks and registration."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .._checks import INT_DTYPES, accepts_numpy, check_choice, check_range, check_tensor
from .._dispatch import Backend, resolve_backend
from ..groups.op import group_advantages
from .reference import pair_ids_ref


@accepts_numpy
def anchor_groups(group: Tensor, anchors: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Dense ids of (group, anchor) pairs: the step groups of GiGPO.

    Args:
        group: [R] integer, any values.
        anchors: [R] int64, bit patterns of the hash of the state before the turn; all 64 bits are compared.

    Returns:
        [R] int64: equal where both are equal, numbered 0, 1, ... in order of first appearance.

    Raises:
        ValueError, TypeError: a shape, dtype or device is wrong. View uint64 hashes as int64.
    """
    check_tensor("group", group, shape=(None,), dtypes=INT_DTYPES)
    check_tensor("anchors", anchors, shape=tuple(group.shape), dtypes=(torch.int64,), like=group)
    out: Tensor = pair_ids_op(group, anchors, resolve_backend(backend, group.device, cpu_needs_numba=True))
    return out


@accepts_numpy
def gigpo_advantages(
    scores: Tensor,
    returns: Tensor,
    group: Tensor,
    anchors: Tensor,
    *,
    trial: Tensor | None = None,
    episode: Tensor | None = None,
    stats_unit: Literal["trial", "episode", "turn"] = "turn",
    baseline: Literal["mean", "leave_one_out"] = "mean",
    scale: Literal["none", "std"] = "none",
    w: float = 1.0,
    eps: float = 1e-6,
    backend: Backend = "auto",
) -> Tensor:
    """GiGPO: episode bracket of the scores + w x step bracket of the returns.

    Both brackets are ``group_advantages`` with the same ``baseline`` and ``scale``. The first is taken over
    ``group`` with ``stats_unit``; the second over the turns of a group that share an anchor, each weighing 1.
    A group of one unit, and a step group of one turn, give 0.

    Args:
        scores: [R] float32 or float64, the episode's score on each of its turns.
        returns: [R] dtype of ``scores``, the return of each turn.
        group, trial, episode: [R] integer, as in ``group_advantages``.
        anchors: [R] int64, as in ``anchor_groups``.
        w: weight of the step bracket, >= 0.

    Returns:
        [R] in the dtype of ``scores``. Not differentiable.
    """
    check_choice("scale", scale, ("none", "std"))
    check_range("w", w, 0.0, float("inf"))
    check_tensor("returns", returns, shape=tuple(scores.shape), dtypes=(scores.dtype,), like=scores)
    step_group = anchor_groups(group, anchors, backend=backend)
    statistics = partial(group_advantages, baseline=baseline, scale=scale, eps=eps, backend=backend)
    episode_bracket = statistics(scores, group, trial=trial, episode=episode, stats_unit=stats_unit)
    return episode_bracket + w * statistics(returns, step_group)


@torch.library.custom_op("lamer_kernels::anchor_groups", mutates_args=())
def pair_ids_op(a: Tensor, b: Tensor, backend: str) -> Tensor:
    if backend == "reference":
        return pair_ids_ref(a, b)
    if backend == "triton":
        from . import gpu

        return gpu.pair_ids(a, b)
    import numpy as np

    from . import cpu

    group = np.empty(len(a), np.int32)
    num_groups = cpu.pair_ids(np.zeros(len(a), np.int32), 1, a.contiguous().numpy(), group)
    ids = torch.empty(a.shape, dtype=torch.int64)
    cpu.pair_ids(group, num_groups, b.contiguous().numpy(), ids.numpy())
    return ids


@pair_ids_op.register_fake
def _(a: Tensor, b: Tensor, backend: str) -> Tensor:
    return a.new_empty(a.shape, dtype=torch.int64)
