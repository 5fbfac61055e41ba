"""Estimators and weights over padded rows, with the arguments by which verl and its descendants call them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..credit.groups import group_advantages
from .padded import LossTokens, dense_ids
from .turns import turn_advantages


def group_estimator(**switches: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """One row per trajectory, groups by uid. scale: as norm_adv_by_std_in_grpo says, unless given."""

    def estimator(
        token_level_rewards: Tensor, response_mask: Tensor, index: Any, config: Any = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        by_std = config is None or config.get("norm_adv_by_std_in_grpo", True)
        scores = token_level_rewards.sum(-1)
        options = {"scale": "std" if by_std else "none"} | switches
        advantages = group_advantages(scores, dense_ids(index).to(scores.device), **options)
        return _spread(advantages, response_mask)

    return estimator


def meta_estimator(
    token_level_rewards: Tensor, response_mask: Tensor, index: Any, config: Any = None,
    non_tensor_batch: Any = None, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One row per turn, in any order of trials, in time order within each. Switches: ``config["lamer"]``."""
    if non_tensor_batch is None or "trial" not in non_tensor_batch:
        raise ValueError("credit of turns needs non_tensor_batch with trial, episode, phase and anchor")
    rows: dict[Any, list[int]] = {}
    for row, trial in enumerate(non_tensor_batch["trial"]):
        rows.setdefault(trial, []).append(row)
    rewards = token_level_rewards.sum(-1).tolist()
    columns = [name for name in ("episode", "phase", "anchor", "valid") if name in non_tensor_batch]
    trials = [
        [{"reward": rewards[i]} | {name: non_tensor_batch[name][i] for name in columns} for i in members]
        for members in rows.values()
    ]
    groups = [index[members[0]] for members in rows.values()]
    per_trial = turn_advantages(trials, groups, **dict((config or {}).get("lamer", {})))
    advantages = torch.empty(len(rewards), dtype=torch.float64)
    advantages[[i for members in rows.values() for i in members]] = torch.cat(per_trial)
    return _spread(advantages.to(token_level_rewards), response_mask)


def _spread(advantages: Tensor, response_mask: Tensor) -> tuple[Tensor, Tensor]:
    spread = advantages.unsqueeze(-1) * response_mask
    return spread, spread


def weights(
    mode: str, tokens: LossTokens, dp_size: int = 1, batch_num_tokens: int | None = None,
    global_batch_size: int | None = None, loss_scale_factor: int | None = None,
) -> Tensor:  # fmt: skip
    """[N] float32: ``loss_agg_mode`` as weights of the loss tokens."""
    counts = tokens.counts
    rows = (counts > 0).sum() if global_batch_size is None else global_batch_size
    if mode == "token-mean":
        per_row = torch.ones_like(counts) / (counts.sum() if batch_num_tokens is None else batch_num_tokens)
    elif mode == "token-sum":
        per_row = torch.ones_like(counts)
    elif mode == "seq-mean-token-sum":
        per_row = torch.ones_like(counts) / rows
    elif mode == "seq-mean-token-sum-norm":
        per_row = torch.ones_like(counts) / rows / (loss_scale_factor or tokens.mask.shape[-1])
    elif mode == "seq-mean-token-mean":
        per_row = 1 / (counts + 1e-8) / rows
    else:
        raise ValueError(f"loss_agg_mode must be one of five, got {mode!r}")
    return tokens.take(per_row.unsqueeze(1) * dp_size)
