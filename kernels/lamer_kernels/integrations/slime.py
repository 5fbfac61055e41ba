"""slime 0.3: credit where all samples are seen.

    --custom-reward-post-process-path lamer_kernels.integrations.slime.group_rewards  # or turn_rewards
    --custom-config-path lamer.yaml  # lamer_credit: {gamma_traj: 0.6}

slime then gives each token of a sample its sample's number (``--advantage-estimator`` grpo, gspo or cispo).
The advantage path is no place for credit: it runs on each data-parallel rank, for the samples there, without
their metadata. The loss: `slime_loss`.
"""

from typing import Any

import torch

from ..credit.groups import group_advantages
from .padded import dense_ids
from .turns import turn_advantages


def group_rewards(args: Any, samples: list[Any]) -> tuple[list[float], list[float]]:
    """Rewards, and each less the mean of its group (over its deviation with ``grpo_std_normalization``).

    Groups may be uneven; a rollout that became several samples counts once; a group of one gives 0.
    """
    rewards = [float(s.get_reward_value(args)) for s in samples]
    rollouts = [("alone", i) if s.rollout_id is None else s.rollout_id for i, s in enumerate(samples)]
    groups = [s.group_index for s in samples]
    advantages = group_advantages(
        torch.tensor(rewards, dtype=torch.float64),
        dense_ids(groups),
        trial=dense_ids(zip(groups, rollouts, strict=True)),
        stats_unit="trial",
        scale="std" if getattr(args, "grpo_std_normalization", True) else "none",
    )
    return rewards, advantages.tolist()


def turn_rewards(args: Any, samples: list[Any]) -> tuple[list[float], list[float]]:
    """Rewards, and the credit of turns: a sample per turn, in any order.

    ``sample.metadata``: ``trial`` and ``turn`` (its place in the trial), and what `turns.Turn` names but the
    reward. Switches of `meta_advantages`: ``args.lamer_credit``.
    """
    rewards = [float(s.get_reward_value(args)) for s in samples]
    trials: dict[Any, list[int]] = {}
    for i in sorted(range(len(samples)), key=lambda i: samples[i].metadata["turn"]):
        trials.setdefault((samples[i].group_index, samples[i].metadata["trial"]), []).append(i)
    turns = [[samples[i].metadata | {"reward": rewards[i]} for i in trial] for trial in trials.values()]
    switches = getattr(args, "lamer_credit", None) or {}
    per_trial = turn_advantages(turns, [group for group, _ in trials], **switches)
    advantages = torch.empty(len(samples), dtype=torch.float64)
    advantages[[i for trial in trials.values() for i in trial]] = torch.cat(per_trial)
    return rewards, advantages.tolist()
