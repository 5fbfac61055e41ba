"""SkyRL 0.3: estimators and losses by name, through its two registries.

Call `register` where your script starts, before SkyRL's entry point runs; SkyRL carries its registries into
its Ray workers, where this package must be installed too:

    trainer.algorithm.advantage_estimator=lamer_grpo | lamer_rloo
    trainer.algorithm.policy_loss_type=lamer_regular | lamer_dual_clip | lamer_gspo | lamer_cispo | lamer_sapo
        | lamer_dppo | lamer_clip_cov | lamer_kl_cov

SkyRL tells an estimator neither turns nor episodes and spreads the last step's number over a trajectory;
credit of turns: `skyrl_turns.TurnCredit`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ..head.policy import Covariance, policy_loss
from ..head.policy.covariance import COVARIANCE
from .padded import LossTokens
from .rows import group_estimator

UTILS = "skyrl.backends.skyrl_train.utils"
LOSSES = {"regular": "clip", "dual_clip": "clip", "gspo": "gspo_token"}
LOSSES |= {name: name for name in ("cispo", "sapo", "dppo", *COVARIANCE)}


def estimator(by_std: bool = True, **switches: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """One row per trajectory, groups by uid. by_std: whether ``grpo_norm_by_std`` is followed."""

    def estimate(
        token_level_rewards: Tensor, response_mask: Tensor, index: Any, grpo_norm_by_std: Any = True, **_: Any
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        scale = "std" if by_std and grpo_norm_by_std else "none"
        return group_estimator(scale=scale, **switches)(token_level_rewards, response_mask, index)

    return estimate


def options(name: str, config: Any) -> dict[str, Any]:
    """Of `policy_loss`, from SkyRL's ``AlgorithmConfig``."""
    kind = LOSSES[name]
    found = {"loss": kind, "clip_low": config.eps_clip_low, "clip_high": config.eps_clip_high}
    if name == "dual_clip":
        found["dual_clip"] = config.clip_ratio_c
    elif name == "cispo":
        found |= {"clip_low": config.cispo.cispo_eps_clip_low, "clip_high": config.cispo.cispo_eps_clip_high}
    elif name == "sapo":
        found |= {"tau_pos": config.sapo.tau_pos, "tau_neg": config.sapo.tau_neg}
    elif name == "clip_cov":
        cov, seed = config.clip_cov, int(torch.randint(2**31, ()))  # the draw follows torch's generator
        return found | {"covariance": Covariance(cov.clip_ratio, cov.clip_cov_lb, cov.clip_cov_ub, seed=seed)}
    elif name == "kl_cov":
        chosen = Covariance(share=config.kl_cov.kl_cov_frac, coef=config.kl_cov.ppo_kl_coef)
        return found | {"covariance": chosen}
    elif name == "dppo":
        kind = {"binary_tv": "dppo", "binary_kl": "dppo_kl"}[config.dppo.dppo_type]
        found |= {"loss": kind, "clip_low": config.dppo.delta_low, "clip_high": config.dppo.delta_high}
    return found if name == "gspo" else found | {"log_ratio_clip": 20.0}


def loss(name: str) -> Callable[..., tuple[Tensor, dict[str, float]]]:
    def compute(
        log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, config: Any,
        loss_mask: Tensor | None = None, rollout_logprobs: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
        """SkyRL has put its aggregation into the advantages: the loss is a sum over the loss tokens."""
        mask = torch.ones_like(log_probs) if loss_mask is None else loss_mask
        tokens, kept, correction, metrics = LossTokens(mask), mask, None, {}
        # SkyRL's own: truncated weights, masks of tokens and of rows; its losses by covariance take none
        if rollout_logprobs is not None and name not in COVARIANCE:
            correct = import_module(f"{UTILS}.off_policy_correction_utils").compute_off_policy_correction
            correction, metrics, kept = correct(
                old_log_probs, rollout_logprobs, mask, config.off_policy_correction
            )
        if name == "dppo" and rollout_logprobs is not None:
            old_log_probs = rollout_logprobs
        scale, found = tokens.take(advantages), options(name, config)
        out = policy_loss(
            tokens.take(log_probs), tokens.take(old_log_probs), scale, token_weights=tokens.take(kept),
            importance_weights=None if correction is None else tokens.take(correction),
            cu_segments=tokens.cu_rows if name == "gspo" else None, **found,
        )  # fmt: skip
        clipped = out.clipped
        low, high = 1 - found["clip_low"], 1 + found["clip_high"]
        by_ratio = ((out.ratio < low) & (scale < 0)) | ((out.ratio > high) & (scale > 0))
        if name in ("regular", "dual_clip"):  # SkyRL's share counts no dual clip
            clipped = by_ratio
        elif name == "clip_cov":  # and here the chosen ones alone
            clipped = clipped & ~by_ratio
        share = 0.0 if name in ("sapo", "kl_cov") else float(clipped.float().sum() / max(len(tokens), 1))
        return out.loss, {"clip_ratio": share} | metrics

    return compute


def register() -> None:
    """Adds our names to SkyRL's registries; a name that is there stays."""
    theirs = import_module(f"{UTILS}.ppo_utils")
    estimators = {
        "lamer_grpo": estimator(singleton="score"),
        "lamer_rloo": estimator(by_std=False, baseline="leave_one_out", singleton="zero"),
    }
    losses = {f"lamer_{name}": loss(name) for name in LOSSES}
    pairs = ((theirs.AdvantageEstimatorRegistry, estimators), (theirs.PolicyLossRegistry, losses))
    for registry, entries in pairs:
        there = set(registry.list_available())
        for name, function in entries.items():
            if name not in there:
                registry.register(name, function)
