"""The definition, and what every back end runs: a table of n + 1 binomial ratios and a look-up."""

from math import comb

import torch
from torch import Tensor


def pass_at_k_trials_ref(success: Tensor, k: int, baseline: str) -> Tensor:
    """[..., n] float64 weights of n independent trials with c successes."""
    n = success.shape[-1]
    c = success.sum(-1, keepdim=True)
    # share of the (k-1)-subsets of the other n - 1 trials without a success, by the number of their failures
    failing = [comb(m, k - 1) / comb(n - 1, k - 1) for m in range(n)]
    none_wins = torch.tensor(failing, dtype=torch.float64, device=success.device)
    failures_among_others = torch.where(success, n - c, n - c - 1)
    alone = none_wins[failures_among_others.clamp(min=0)]
    if baseline == "none":
        return k / n * torch.where(success, 1.0, 1 - alone)
    return k / n * torch.where(success, alone, 0.0)


def pass_at_k_episodes_ref(success: Tensor, k: int, baseline: str) -> Tensor:
    """[..., G, K] float64 weights of the episodes of G trials; a trial ends at its first success."""
    num_trials, num_episodes = success.shape[-2:]
    solved = success[..., :k].any(-1, keepdim=True).double()
    weights = solved / num_trials
    if baseline == "leave_one_out":
        others = (solved.sum(-2, keepdim=True) - solved) / (num_trials - 1)
        weights = (solved - others) / num_trials
    played = success.cumsum(-1) - success.long() == 0  # no success before this episode
    counted = torch.arange(num_episodes, device=success.device) < k
    return torch.where(played & counted, weights, 0.0)
