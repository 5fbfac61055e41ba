"""Reference: the definition of the losses, differentiated by autograd. Any float dtype; runs anywhere."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..logprob.reference import linear_logprob_ref


class PolicyLossRef(NamedTuple):
    loss: Tensor
    logprobs: Tensor
    ratio: Tensor
    clipped: Tensor
    kl: Tensor
    entropy: Tensor | None


def policy_loss_ref(
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    *,
    token_weights: Tensor | None = None,
    cu_segments: Tensor | None = None,
    loss: str = "clip",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    ref_logprobs: Tensor | None = None,
    kl: str = "k3",
    kl_coef: float = 0.0,
    entropy: Tensor | None = None,
    entropy_coef: float = 0.0,
    importance_weights: Tensor | None = None,
) -> PolicyLossRef:
    log_ratio = logprobs - (logprobs.detach() if old_logprobs is None else old_logprobs)
    if loss == "gspo":
        assert cu_segments is not None
        bounds = zip(cu_segments.tolist()[:-1], cu_segments.tolist()[1:], strict=True)
        log_ratio = torch.cat(
            [log_ratio[s:e].mean().expand(e - s) for s, e in bounds if e > s] or [log_ratio]
        )
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    if loss in ("clip", "gspo"):
        surrogate = -torch.minimum(ratio * advantages, bounded * advantages)
        clipped = ratio * advantages > bounded * advantages
        if dual_clip is not None:
            worst = -dual_clip * advantages
            clipped = clipped | ((advantages < 0) & (surrogate > worst))
            surrogate = torch.where(advantages < 0, torch.minimum(surrogate, worst), surrogate)
    elif loss == "cispo":
        surrogate = -bounded.detach() * advantages * logprobs
        clipped = ratio != bounded
    else:  # reinforce
        surrogate = -advantages * logprobs
        clipped = torch.zeros_like(ratio, dtype=torch.bool)
    if importance_weights is not None:
        surrogate = surrogate * importance_weights

    kl_value = torch.zeros_like(logprobs)
    if ref_logprobs is not None:
        gap = ref_logprobs - logprobs
        kl_value = {"k1": lambda: -gap, "k2": lambda: gap**2 / 2, "k3": lambda: gap.exp() - 1 - gap}[kl]()
    per_token = surrogate + kl_coef * kl_value
    if entropy is not None:
        per_token = per_token - entropy_coef * entropy
    if token_weights is not None:
        # a token of weight 0 is absent, whatever its ratio
        per_token = torch.where(token_weights != 0, per_token * token_weights, 0.0)
    return PolicyLossRef(per_token.sum(), logprobs, ratio, clipped, kl_value, entropy)


def linear_policy_loss_ref(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    *,
    token_idx: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
    **loss_options: Any,
) -> PolicyLossRef:
    head = linear_logprob_ref(
        hidden, weight, targets, token_idx=token_idx, temperature=temperature, bias=bias, softcap=softcap
    )
    return policy_loss_ref(head.logprobs, old_logprobs, advantages, entropy=head.entropy, **loss_options)
