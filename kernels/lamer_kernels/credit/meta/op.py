"""meta_advantages: contract, checks and registration."""

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import FLOAT_DTYPES, INT_DTYPES, as_floats, as_mask, check_offsets, check_tensor
from ..._core.dispatch import Backend, resolve_backend
from ..._core.namespace import qualified
from ..._core.numbers import check_flag
from ..._core.registered import ESTIMATORS, checked, function, refuse_idle
from ..returns.op import check_turns
from ..switches import (
    NAMES,
    AnchorKey,
    Baseline,
    EpisodeCredit,
    Estimator,
    ReflectionScore,
    ReturnForm,
    Scale,
    StatsUnit,
    Switches,
    flat,
    of_flat,
    resolve,
)
from .reference import meta_advantages_ref


@accepts_numpy
def meta_advantages(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    group: Tensor,
    cu_trials: Tensor,
    *,
    anchors: Tensor | None = None,
    valid: Tensor | None = None,
    estimator: Estimator | str = Switches.estimator,
    estimator_options: Mapping[str, object] | None = None,
    episode_credit: EpisodeCredit = Switches.episode_credit,
    return_form: ReturnForm = Switches.return_form,
    gamma_step: float = Switches.gamma_step,
    gamma_traj: float = Switches.gamma_traj,
    reflection_score: ReflectionScore = Switches.reflection_score,
    stats_unit: StatsUnit = Switches.stats_unit,
    baseline: Baseline | None = Switches.baseline,
    scale: Scale | None = Switches.scale,
    anchor_key: AnchorKey = Switches.anchor_key,
    w: float = Switches.step_weight,
    invalid_penalty: float = Switches.invalid_penalty,
    eps: float = Switches.eps,
    grouped: bool = False,
    backend: Backend = "auto",
    validate: bool = False,
) -> Tensor:
    """Advantage of every turn of a batch of trials.

    A = episode bracket [+ w * step bracket, gigpo only]. With ``G`` = ``cross_episode_returns`` of the turn:

    episode bracket: ``group_advantages`` of scores S over ``group`` with ``stats_unit``, where a turn scores

        episode_credit  cross        S = G of its episode's first turn: later episodes count, discounted
                        own          S = sum of its episode's rewards, undiscounted: no later episode counts
        a reflection    next_return  S of the episode that follows it (0 if none does)
                        zero         S = 0
                        exclude      enters no statistic of this bracket, and gets 0 from it
        penalty         S - invalid_penalty where ``valid`` is False, on that turn alone; never on G

    step bracket: ``group_advantages`` of G over the turns of a group with the same anchor (``anchor_key``
    board), or the same anchor and episode index (board+episode); every turn weighs 1. The reflections of a
    group form one step group (board) or one per following episode (board+episode), whatever their anchors.

    Both brackets take ``baseline`` and ``scale``; None is the estimator's own:

        gigpo        mean, none            with its step bracket
        grpo         mean, std             scale="none" is Dr. GRPO
        rloo         leave_one_out, none
        reinforce++  mean, std             of the batch (REINFORCE++-baseline), not of the group

    In both, a group of equal values gives exactly 0, and so does a group of one unit. The released code of
    LaMer is episode_credit="own", return_form="released", reflection_score="zero", stats_unit="turn"; there a
    group of one single turn keeps its raw score, here it gets 0.

    Args:
        rewards: [R] float32 or float64 (integers count as float64); turns of a trial contiguous, in time
            order; ignored on reflections.
        phase: [R] integer or bool, 0 = PLAY, 1 = REFLECT.
        episode: [R] integer, never falling inside a trial; a reflection carries that of the episode after it.
        group: [R] integer, any values; one value per trial.
        cu_trials: [M+1] int64 or int32 offsets of the trials.
        anchors: [R] int64 hash of the state before the turn; needed by gigpo, not used by the others.
        valid: [R] bool (or integers 0 and 1), False where the reply could not be parsed. None: all are valid.
        estimator_options: keywords for an estimator that another package registers (entry points of
            ``lamer_kernels.estimators``): a function of (rewards, phase, episode, group, cu_trials), anchors
            and valid where they are given, and the options, that returns [R] floats.
        gamma_step, gamma_traj: in [0, 1]. w (``Switches.step_weight``), invalid_penalty, eps: >= 0.
        grouped: the trials of a group are neighbours. A GPU then needs at most 3 launches and no sort.
        validate: also check the values of ``cu_trials``, ``phase``, ``episode`` and ``group`` (synchronises).

    Returns:
        [R] in the dtype of ``rewards``, computed in float64. Not differentiable.

    Raises:
        ValueError, TypeError: a shape, dtype, device or switch is wrong, or a switch away from its default
            cannot act under the others (``switches.resolve``); the message names it.
    """
    (rewards,) = as_floats(rewards)
    check_turns(rewards, phase, episode, cu_trials, validate=validate)
    shape = tuple(rewards.shape)
    check_tensor("group", group, shape=shape, dtypes=INT_DTYPES, like=rewards)
    own = None
    if isinstance(estimator, str) and estimator not in get_args(Estimator):
        own = function(ESTIMATORS, "estimator", estimator, get_args(Estimator))
    elif estimator_options is not None:
        raise ValueError(
            f"estimator_options go with one that another package registers, got estimator {estimator!r}"
        )
    switches = Switches(
        cast(Estimator, Switches.estimator if own else estimator), episode_credit, return_form, gamma_step,
        gamma_traj, reflection_score, stats_unit, baseline, scale, anchor_key, w, invalid_penalty, eps,
    )  # fmt: skip
    if own is None:
        switches = resolve(switches)
    else:
        idle = {name: (getattr(switches, name), getattr(Switches, name)) for name in NAMES}
        refuse_idle(
            "estimator", estimator, idle | {"grouped": (grouped, False), "backend": (backend, "auto")}
        )
    if anchors is not None:
        check_tensor("anchors", anchors, shape=shape, dtypes=(torch.int64,), like=rewards)
    elif estimator == "gigpo":
        raise ValueError("estimator 'gigpo' needs anchors, got None")
    if valid is not None:
        valid = as_mask("valid", valid, validate=validate)
        check_tensor("valid", valid, shape=shape, dtypes=(torch.bool,), like=rewards)
    elif invalid_penalty != Switches.invalid_penalty:
        raise ValueError(f"invalid_penalty={invalid_penalty} needs valid, got None")
    if validate:
        _check_groups(group, cu_trials)
        if grouped:
            _check_neighbours(group)
    if own is not None:
        more = {name: x for name, x in (("anchors", anchors), ("valid", valid)) if x is not None}
        with torch.no_grad():
            made = own(rewards, phase, episode, group, cu_trials, **more, **(estimator_options or {}))
        return checked("estimator", estimator, made, rewards, FLOAT_DTYPES).to(rewards.dtype)
    out: Tensor = meta_op(
        rewards, phase, episode, group, cu_trials, anchors if estimator == "gigpo" else None, valid,
        flat(switches), check_flag("grouped", grouped),
        resolve_backend(backend, rewards.device, cpu_needs_numba=True, rows=len(rewards)),
    )  # fmt: skip
    return out


def _check_groups(group: Tensor, cu_trials: Tensor) -> None:
    same = torch.ones_like(group, dtype=torch.bool)
    same[1:] = group[1:] == group[:-1]
    starts = cu_trials[:-1].long()
    same[starts[starts < len(group)]] = True
    if not bool(same.all()):
        row = int((~same).nonzero()[0, 0])
        raise ValueError(
            f"a trial must lie in one group: turn {row - 1} is in group {int(group[row - 1])}, "
            f"turn {row} of the same trial in group {int(group[row])}"
        )


def _check_neighbours(group: Tensor) -> None:
    runs = torch.unique_consecutive(group)
    if len(runs) != len(torch.unique(runs)):
        values, counts = torch.unique(runs, return_counts=True)
        again = int(values[counts > 1][0])
        raise ValueError(f"grouped says that the trials of a group are neighbours, group {again} comes twice")


@torch.library.custom_op(qualified("meta_advantages"), mutates_args=())
def meta_op(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    group: Tensor,
    cu_trials: Tensor,
    anchors: Tensor | None,
    valid: Tensor | None,
    switches: Sequence[float],
    grouped: bool,
    backend: str,
) -> Tensor:
    """switches: `switches.flat`."""
    if backend == "triton" and grouped:
        from . import gpu

        columns = (rewards, phase, episode, group, cu_trials, anchors, valid)
        return gpu.meta_advantages(columns, of_flat(switches))
    if backend != "cpu":
        exact = meta_advantages_ref(
            rewards, phase, episode, group, cu_trials, anchors, valid, of_flat(switches), backend
        )
        return exact.to(rewards.dtype)
    from . import cpu

    check_offsets("cu_trials", cu_trials, len(rewards))
    out = torch.empty(rewards.shape, dtype=rewards.dtype)
    given = (rewards.detach(), phase, episode, group, cu_trials)
    bad = cpu.meta_advantages(
        *(x.contiguous().numpy() for x in given),
        np.empty(0, np.int64) if anchors is None else anchors.contiguous().numpy(),
        np.empty(0, np.bool_) if valid is None else valid.contiguous().numpy(),
        cpu.Numbers(*switches),
        out.numpy(),
    )
    if bad >= 0:
        _check_groups(group, cu_trials)
    return out


@meta_op.register_fake
def _(rewards: Tensor, *rest: Any) -> Tensor:
    return rewards.new_empty(rewards.shape)
