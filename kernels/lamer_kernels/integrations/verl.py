"""verl 0.9: estimators and losses by name, and the log-prob head of its fused kernels.

verl 0.9 imports this by itself (entry point group ``verl.plugins``); 0.7 and 0.8 by
``VERL_USE_EXTERNAL_MODULES=lamer_kernels.integrations.verl``. Then, by name:

    algorithm.adv_estimator=lamer_grpo | lamer_rloo | lamer_reinforce_baseline | lamer_meta
    actor_rollout_ref.actor.policy_loss.loss_mode=lamer_clip  # or another one of LOSSES
    actor_rollout_ref.model.use_fused_kernels=True  # our head behind verl's fused forward

``lamer_meta`` needs the columns trial, episode, phase and anchor of each row, which verl hands to no named
estimator yet (verl#7473): call it from a trainer of your own.
"""

import logging
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo import core_algos
from verl.utils.experimental import torch_functional

from ..head.logprob import linear_logprob
from ..head.policy import Covariance, policy_loss
from ..head.policy.covariance import COVARIANCE
from .padded import LossTokens
from .rows import group_estimator, meta_estimator, weights

LOSSES = {
    "lamer_clip": "clip", "lamer_cispo": "cispo", "lamer_gspo": "gspo_token", "lamer_sapo": "sapo",
    "lamer_dppo": "dppo", "lamer_dppo_kl": "dppo_kl", "lamer_clip_cov": "clip_cov", "lamer_kl_cov": "kl_cov",
}  # fmt: skip
HEAD_ARGUMENTS = ("self", "hidden_states", "vocab_weights", "input_ids", "temperature")


def loss(kind: str) -> Callable[..., tuple[Tensor, dict[str, Any]]]:
    def compute(
        old_log_prob: Tensor, log_prob: Tensor, advantages: Tensor, response_mask: Tensor,
        loss_agg_mode: str, config: Any, rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:  # fmt: skip
        tokens = LossTokens(response_mask)
        bounds = (config.get("clip_ratio_low"), config.get("clip_ratio_high"))
        low, high = (config.clip_ratio if x is None else x for x in bounds)
        out = policy_loss(
            tokens.take(log_prob),
            tokens.take(old_log_prob),
            tokens.take(advantages),
            token_weights=weights(loss_agg_mode, tokens, **config.global_batch_info),
            loss=kind,
            clip_low=low,
            clip_high=high,
            dual_clip=config.get("clip_ratio_c", 3.0) if kind == "clip" else None,
            cu_segments=tokens.cu_rows if kind == "gspo_token" else None,
            log_ratio_clip=None if kind in ("gspo_token", *COVARIANCE) else 20.0,
            covariance=covariance(kind, config.policy_loss) if kind in COVARIANCE else None,
            **{name: config.get(name) for name in ("tau_pos", "tau_neg") if kind == "sapo"},
            importance_weights=None if rollout_is_weights is None else tokens.take(rollout_is_weights),
        )
        clipped, log_ratio = out.clipped, tokens.take(log_prob.detach() - old_log_prob)
        signs = tokens.take(advantages).sign()
        by_ratio = ((out.ratio < 1 - low) & (signs < 0)) | ((out.ratio > 1 + high) & (signs > 0))
        if kind == "clip":  # verl's share counts no dual clip
            clipped = by_ratio
        elif kind == "clip_cov":  # and here the chosen ones alone
            clipped = clipped & ~by_ratio
        elif kind == "kl_cov":  # verl counts no clip there, and distances
            clipped, log_ratio = torch.zeros_like(clipped), -log_ratio.abs()
        sums = torch.stack([clipped.float().sum(), -log_ratio.clamp(-20, 20).sum()])
        share = (sums / max(len(tokens), 1)).tolist()
        return out.loss, {"actor/pg_clipfrac": share[0], "actor/ppo_kl": share[1]}

    return compute


def covariance(kind: str, config: Any) -> Covariance:
    """Of verl's ``actor.policy_loss``; the draw follows torch's generator, as verl's does."""
    if kind == "kl_cov":
        return Covariance(share=config.kl_cov_ratio, coef=config.ppo_kl_coef)
    seed = int(torch.randint(2**31, ()))
    return Covariance(share=config.clip_cov_ratio, low=config.clip_cov_lb, high=config.clip_cov_ub, seed=seed)


def whole_head(weight: Tensor) -> Tensor:
    """FSDP2 in verl shards an untied head apart, and reads its weight outside of the head's own forward."""
    if type(weight).__name__ != "DTensor":
        return weight
    from torch.distributed.tensor import Partial

    mesh: Any = weight.device_mesh  # type: ignore[attr-defined]
    if mesh.ndim != 1:
        raise ValueError(f"a head sharded over one mesh dimension is supported, got {mesh.ndim}")
    whole: Tensor = weight.full_tensor(grad_placements=[Partial("avg")])  # type: ignore[attr-defined]
    return whole


def head_forward(
    self: Any, hidden_states: Tensor, vocab_weights: Tensor, input_ids: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Of ``FusedLinearForPPO``: log-probs float32 and entropy, in the shape of input_ids."""
    out = linear_logprob(
        hidden_states, whole_head(vocab_weights), input_ids, temperature=temperature, entropy=True
    )
    assert out.entropy is not None  # asked for
    return out.logprobs, out.entropy.to(hidden_states.dtype)


def register() -> None:
    for name, function in {
        "lamer_grpo": group_estimator(singleton="score"),
        "lamer_rloo": group_estimator(baseline="leave_one_out", scale="none", singleton="score"),
        "lamer_reinforce_baseline": group_estimator(scale="batch_std"),
        "lamer_meta": meta_estimator,
    }.items():
        core_algos.ADV_ESTIMATOR_REGISTRY[name] = function
    for name, kind in LOSSES.items():
        core_algos.POLICY_LOSS_REGISTRY[name] = loss(kind)
    head = torch_functional.FusedLinearForPPO
    found = tuple(signature(head.forward).parameters)
    if found == HEAD_ARGUMENTS:
        head.forward = head_forward
    else:  # verl hides the errors of a plugin
        logging.getLogger(__name__).warning(
            "verl's FusedLinearForPPO.forward takes %s, known is %s: its head stays", found, HEAD_ARGUMENTS
        )


register()
