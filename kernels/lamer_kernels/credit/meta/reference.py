"""The definition of the op in terms of the other ops; `backend` chooses who computes these."""

import torch
from torch import Tensor

from ..anchors.op import pair_ids_op
from ..groups.op import group_op
from ..returns.op import returns_op
from ..returns.reference import PLAY
from ..switches import Switches


def meta_advantages_ref(
    rewards: Tensor,
    phase: Tensor,
    episode: Tensor,
    group: Tensor,
    cu_trials: Tensor,
    anchors: Tensor | None,
    valid: Tensor | None,
    switches: Switches,
    backend: str = "reference",
) -> Tensor:
    """switches: with `baseline` and `scale` filled in, as `switches.resolve` returns them."""
    baseline, scale, eps = switches.baseline, switches.scale, switches.eps
    rewards, play = rewards.double(), phase == PLAY
    rows = torch.arange(len(rewards), device=rewards.device)
    trial = torch.searchsorted(cu_trials[1:].contiguous(), rows, right=True)
    form = (switches.gamma_step, switches.gamma_traj, switches.return_form)
    returns = returns_op(rewards, phase, episode, cu_trials, *form, backend)

    # an episode (with the reflection before it) scores the return of its first turn
    starts = torch.ones_like(play)
    starts[1:] = (episode[1:] != episode[:-1]) | (trial[1:] != trial[:-1])
    first = torch.where(starts, rows, 0).cummax(0).values if len(rows) else rows
    own_score = switches.episode_credit == "own"
    of_turn = (
        returns_op(rewards, phase, episode, cu_trials, 1.0, 0.0, "paper", backend) if own_score else returns
    )
    scores = of_turn[first]
    if switches.reflection_score == "zero":
        scores = torch.where(play, scores, 0)
    if valid is not None:
        scores = torch.where(valid, scores, scores - switches.invalid_penalty)
    include = play if switches.reflection_score == "exclude" else None
    out: Tensor = group_op(
        scores, group, trial, episode, include, switches.stats_unit, baseline, scale, "zero", eps, backend
    )
    if anchors is None:
        return out

    # reflections have no board: those of a group compare with one another
    key = pair_ids_op(group, episode, backend) if switches.anchor_key == "board+episode" else group
    key = pair_ids_op(key, (~play).to(torch.uint8), backend)
    key = pair_ids_op(key, torch.where(play, anchors, 0), backend)
    step = group_op(returns, key, None, None, None, "turn", baseline, scale, "zero", eps, backend)
    out += switches.step_weight * step
    return out
