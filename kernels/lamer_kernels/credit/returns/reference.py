"""Reference: the definition of the ops. Any float dtype, any device, vectorised over trials only."""

import torch
from torch import Tensor

PLAY, REFLECT = 0, 1  # values of `phase`


def cross_episode_returns_ref(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    gamma_step: float,
    gamma_traj: float,
    return_form: str,
) -> Tensor:
    play = phase == PLAY
    crosses = play & _next_episode_differs(episode)
    r = torch.where(play, rewards, 0)
    if return_form == "released":
        return reverse_scan_ref(_per_turn(play, crosses, gamma_step, gamma_traj, r), r, cu_trials)
    # paper: returns inside the episodes, then what flows in from later ones: F_n = gamma_traj (g_0 + F)_(n+1)
    g = reverse_scan_ref(_per_turn(play, crosses, gamma_step, 0.0, r), r, cu_trials)
    inflow = torch.where(crosses, gamma_traj * _next(g, cu_trials), 0)
    future = reverse_scan_ref(torch.where(crosses, gamma_traj, torch.ones_like(r)), inflow, cu_trials)
    return g + future


def gae_ref(
    rewards: Tensor,
    values: Tensor,
    phase: Tensor,
    episode: Tensor,
    cu_trials: Tensor,
    gamma_step: float,
    gamma_traj: float,
    lambda_step: float,
    lambda_traj: float,
) -> tuple[Tensor, Tensor]:
    play = phase == PLAY
    crosses = play & _next_episode_differs(episode)
    gamma = _per_turn(play, crosses, gamma_step, gamma_traj, rewards)
    lam = _per_turn(play, crosses, lambda_step, lambda_traj, rewards)
    # value of the next PLAY turn: a reflection passes it on
    value = reverse_scan_ref((~play).to(values.dtype), torch.where(play, values, 0), cu_trials)
    b = torch.where(play, rewards + gamma * (1 - lam) * _next(value, cu_trials), 0)
    returns = reverse_scan_ref(gamma * lam, b, cu_trials)
    return returns - values, returns


def reverse_scan_ref(a: Tensor, b: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``R_t = b_t + a_t R_(t+1)`` inside each segment of ``cu_seqlens``, R = 0 past its end."""
    out = torch.empty_like(b)
    ends, lengths = cu_seqlens[1:].long(), cu_seqlens.diff()
    for back in range(1, int(lengths.max()) + 1 if len(lengths) else 1):
        live = lengths >= back
        rows = ends[live] - back
        out[rows] = b[rows] if back == 1 else b[rows] + a[rows] * out[rows + 1]
    return out


def _next(x: Tensor, cu_trials: Tensor) -> Tensor:
    """x of the next turn, 0 at the end of a trial."""
    out = torch.cat([x[1:], torch.zeros_like(x[:1])])
    last = cu_trials[1:].long() - 1
    out[last[cu_trials.diff() > 0]] = 0
    return out


def _next_episode_differs(episode: Tensor) -> Tensor:
    """Garbage at the last turn of a trial, where it multiplies a zero."""
    return torch.cat([episode[1:] != episode[:-1], torch.zeros_like(episode[:1], dtype=torch.bool)])


def _per_turn(play: Tensor, crosses: Tensor, step: float, traj: float, like: Tensor) -> Tensor:
    """1 on a reflection, `traj` where the next turn belongs to another episode, else `step`."""
    inside = torch.where(crosses, traj, torch.full_like(like, step))
    return torch.where(play, inside, 1)
