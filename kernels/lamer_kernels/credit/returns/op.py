"""cross_episode_returns, discounted_returns, gae: contracts, checks and registration."""

from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import (
    FLOAT_DTYPES,
    INT_DTYPES,
    as_floats,
    check_choice,
    check_cu,
    check_offsets,
    check_tensor,
)
from ..._core.dispatch import Backend, resolve_backend
from ..._core.namespace import qualified
from ..._core.numbers import check_number
from .reference import PLAY, cross_episode_returns_ref, gae_ref

RETURN_FORMS = ("paper", "released")


@accepts_numpy
def cross_episode_returns(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    *,
    gamma_step: float,
    gamma_traj: float,
    return_form: Literal["paper", "released"] = "paper",
    backend: Backend = "auto",
    validate: bool = False,
) -> Tensor:
    """Return of every turn when later episodes of a trial pay back to earlier ones.

    With ``g_t`` the return inside episode n (of ``L`` PLAY turns) and ``G_0(n+1)`` the return at the start of
    the next episode of the trial (0 if there is none):

        paper      G_t = g_t + gamma_traj * G_0(n+1)
        released   G_t = g_t + gamma_step ** (L - 1 - t) * gamma_traj * G_0(n+1)

    A reflection has no reward; it earns ``G_0`` of the episode that follows it, or 0 if none does.
    ``gamma_traj`` acts once at each boundary between episodes. Not differentiable: a backward pass raises.

    Args:
        rewards: [R] float32 or float64 (integers count as float64); turns of a trial contiguous, in time
            order; ignored on reflections.
        phase: [R] integer or bool, 0 = PLAY, 1 = REFLECT.
        episode: [R] integer. A reflection carries the index of the episode that follows it.
        cu_trials: [M+1] int64 or int32, ``cu_trials[m]:cu_trials[m+1]`` are the turns of trial m.
        gamma_step, gamma_traj: in [0, 1].
        validate: also check the values of ``cu_trials``, ``phase`` and ``episode`` (synchronises with a GPU).

    Returns:
        [R] in the dtype of ``rewards``, computed in float64.

    Raises:
        ValueError, TypeError: a shape, dtype, device or switch is wrong; the message names it.
    """
    (rewards,) = as_floats(rewards)
    check_turns(rewards, phase, episode, cu_trials, validate=validate)
    gamma_step, gamma_traj = check_discounts(gamma_step=gamma_step, gamma_traj=gamma_traj)
    check_choice("return_form", return_form, RETURN_FORMS)
    resolved = resolve_backend(backend, rewards.device, cpu_needs_numba=True, rows=len(rewards))
    out: Tensor = returns_op(
        rewards, phase, episode, cu_trials, gamma_step, gamma_traj, return_form, resolved
    )
    return out


@accepts_numpy
def discounted_returns(
    rewards: Tensor, cu_seqlens: Tensor, *, gamma: float, backend: Backend = "auto", validate: bool = False
) -> Tensor:
    """``R_t = r_t + gamma * R_(t+1)`` inside each sequence, R = 0 past its end.

    Args:
        rewards: [R] float32 or float64 (integers count as float64), one row per turn (or token).
        cu_seqlens: [S+1] int64 or int32 offsets of the sequences.
        gamma: in [0, 1].

    Returns:
        [R] in the dtype of ``rewards``, computed in float64.
    """
    (rewards,) = as_floats(rewards)
    check_tensor("rewards", rewards, shape=(None,), dtypes=FLOAT_DTYPES)
    same = torch.zeros(rewards.shape, dtype=torch.uint8, device=rewards.device)
    check_turns(rewards, same, same, cu_seqlens, validate=validate, offsets_name="cu_seqlens")
    (gamma,) = check_discounts(gamma=gamma)
    resolved = resolve_backend(backend, rewards.device, cpu_needs_numba=True, rows=len(rewards))
    out: Tensor = returns_op(rewards, same, same, cu_seqlens, gamma, 0.0, "released", resolved)
    return out


@accepts_numpy
def gae(
    rewards: Tensor,
    values: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    *,
    gamma_step: float,
    gamma_traj: float,
    lambda_step: float = 0.95,
    lambda_traj: float = 0.95,
    backend: Backend = "auto",
    validate: bool = False,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates along the PLAY turns of a trial, with their own lambda across episodes.

    ``V'`` is the value and ``R'`` the lambda return of the next PLAY turn of the trial (0 at its end). gamma
    and lambda are those of the step, or those of the trajectory if that turn belongs to another episode:

        R_t = r_t + gamma * ((1 - lambda) * V' + lambda * R')        advantage = R_t - V_t

    A reflection takes R' unchanged. With lambda = 1 and values 0 this is the `released` form of
    ``cross_episode_returns``. For one stream of turns or tokens pass zeros as ``phase`` and ``episode``.

    Args:
        values: [R] dtype of ``rewards``: the critic's value of each turn, in units of reward.
        lambda_step, lambda_traj: in [0, 1].
        The others are those of ``cross_episode_returns``.

    Returns:
        (advantages, returns), each [R] in the dtype of ``rewards``, computed in float64.
    """
    rewards, values = as_floats(rewards, values)
    check_turns(rewards, phase, episode, cu_trials, validate=validate)
    check_tensor("values", values, shape=tuple(rewards.shape), dtypes=(rewards.dtype,), like=rewards)
    gamma_step, gamma_traj, lambda_step, lambda_traj = check_discounts(
        gamma_step=gamma_step, gamma_traj=gamma_traj, lambda_step=lambda_step, lambda_traj=lambda_traj
    )
    resolved = resolve_backend(backend, rewards.device, cpu_needs_numba=True, rows=len(rewards))
    advantages, returns = gae_op(
        rewards, values, phase, episode, cu_trials, gamma_step, gamma_traj, lambda_step, lambda_traj, resolved
    )
    return advantages, returns


def check_turns(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    *,
    validate: bool,
    offsets_name: str = "cu_trials",
) -> None:
    check_tensor("rewards", rewards, shape=(None,), dtypes=FLOAT_DTYPES)
    shape = tuple(rewards.shape)
    check_tensor("phase", phase, shape=shape, dtypes=(*INT_DTYPES, torch.bool), like=rewards)
    check_tensor("episode", episode, shape=shape, dtypes=INT_DTYPES, like=rewards)
    check_cu(offsets_name, cu_trials, len(rewards), like=rewards, validate=validate)
    if validate:
        _check_order(phase, episode, cu_trials)


def _check_order(phase: Tensor, episode: Tensor, cu_trials: Tensor) -> None:
    if len(phase) and not bool(((phase == 0) | (phase == 1)).all()):
        raise ValueError(f"phase must be 0 (PLAY) or 1 (REFLECT), got {int(phase.max())}")
    inside = torch.ones_like(episode, dtype=torch.bool)
    starts = cu_trials[:-1].long()
    inside[starts[starts < len(episode)]] = False
    step = episode.long().diff(prepend=episode[:1].long())
    if bool((inside & (step < 0)).any()):
        raise ValueError("episode must not fall inside a trial")
    after_reflection = torch.zeros_like(inside)
    after_reflection[1:] = phase[:-1] != PLAY
    bad = inside & after_reflection & (step != 0)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"a reflection must carry the episode that follows it: turn {row - 1} is a reflection of episode "
            f"{int(episode[row - 1])}, turn {row} belongs to episode {int(episode[row])}"
        )


def check_discounts(**discounts: float) -> list[float]:
    return [check_number(name, value, "[0, 1]") for name, value in discounts.items()]


@torch.library.custom_op(qualified("cross_episode_returns"), mutates_args=())
def returns_op(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    gamma_step: float,
    gamma_traj: float,
    return_form: str,
    backend: str,
) -> Tensor:
    if backend == "reference":
        out = cross_episode_returns_ref(
            rewards.double(), phase, episode, cu_trials, gamma_step, gamma_traj, return_form
        )
        return out.to(rewards.dtype, copy=True)
    if backend == "triton":
        from . import gpu

        out, factors = rewards.new_empty(rewards.shape), (gamma_step, gamma_traj, 0.0, 0.0)
        inputs = [rewards, rewards, phase, episode, cu_trials]
        gpu.run(inputs, (out, out), factors, paper=return_form == "paper", gae=False)
        return out
    from . import cpu

    out = torch.empty(rewards.shape, dtype=torch.float64)
    columns = columns_of(rewards, phase, episode, cu_trials)
    cpu.cross_episode_returns(*columns, gamma_step, gamma_traj, return_form == "paper", out.numpy())
    return out.to(rewards.dtype)


def columns_of(rewards: Tensor, phase: Tensor, *integers: Tensor) -> list[npt.NDArray[Any]]:
    """numpy views with one dtype per column (one compilation), offsets checked: compiled code trusts them."""
    check_offsets("cu_trials", integers[-1], len(rewards))
    columns = (rewards.detach().double(), phase.to(torch.uint8), *(x.long() for x in integers))
    return [x.contiguous().numpy() for x in columns]


@returns_op.register_fake
def _(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    gamma_step: float,
    gamma_traj: float,
    return_form: str,
    backend: str,
) -> Tensor:
    return rewards.new_empty(rewards.shape)


@torch.library.custom_op(qualified("gae"), mutates_args=())
def gae_op(
    rewards: Tensor,
    values: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    gamma_step: float,
    gamma_traj: float,
    lambda_step: float,
    lambda_traj: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    factors = (gamma_step, gamma_traj, lambda_step, lambda_traj)
    if backend == "reference":
        exact = gae_ref(rewards.double(), values.double(), phase, episode, cu_trials, *factors)
        return exact[0].to(rewards.dtype, copy=True), exact[1].to(rewards.dtype, copy=True)
    if backend == "triton":
        from . import gpu

        advantages, returns = (rewards.new_empty(rewards.shape) for _ in range(2))
        inputs = [rewards, values, phase, episode, cu_trials]
        gpu.run(inputs, (returns, advantages), factors, paper=False, gae=True)
        return advantages, returns
    from . import cpu

    advantages, returns = torch.empty((2, len(rewards)), dtype=torch.float64)
    first, *others = columns_of(rewards, phase, episode, cu_trials)
    critic = values.detach().double().contiguous().numpy()
    cpu.gae(first, critic, *others, *factors, advantages.numpy(), returns.numpy())
    return advantages.to(rewards.dtype, copy=True), returns.to(rewards.dtype, copy=True)


@gae_op.register_fake
def _(
    rewards: Tensor,
    values: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    gamma_step: float,
    gamma_traj: float,
    lambda_step: float,
    lambda_traj: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    return rewards.new_empty(rewards.shape), rewards.new_empty(rewards.shape)
