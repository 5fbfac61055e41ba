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
    log_ratio_clip: float | None = None,
    ref_logprobs: Tensor | None = None,
    kl: str = "k3",
    kl_coef: float = 0.0,
    kl_clip: tuple[float, float] | None = None,
    entropy: Tensor | None = None,
    entropy_coef: float = 0.0,
    importance_weights: Tensor | None = None,
    tau_pos: float = 1.0,
    tau_neg: float = 1.05,
) -> PolicyLossRef:
    # a token of weight 0 is absent, and a factor of 0 means no pull, whatever the ratio: no gradient may come
    # back through them, where an infinite exp' would make 0 x inf of it
    present = torch.ones_like(logprobs, dtype=torch.bool) if token_weights is None else token_weights != 0
    pulls = present & (advantages != 0)
    if importance_weights is not None:
        pulls = pulls & (importance_weights != 0)

    on_policy = torch.where(logprobs.isinf(), 0.0, logprobs) if old_logprobs is None else logprobs
    log_ratio = on_policy - (on_policy.detach() if old_logprobs is None else old_logprobs)
    if loss == "gmpo":
        bounded = log_ratio.clamp(-clip_low, clip_high)
        inside = torch.where(advantages > 0, log_ratio <= clip_high, log_ratio >= -clip_low)
        beyond_bounds = (advantages == 0) | ~inside
        log_ratio = torch.where(beyond_bounds, bounded.detach().where(advantages != 0, 0.0), log_ratio)
    if loss in ("gspo", "gspo_token", "gmpo"):
        assert cu_segments is not None
        bounds = zip(cu_segments.tolist()[:-1], cu_segments.tolist()[1:], strict=True)
        mean = torch.cat([log_ratio[s:e].mean().expand(e - s) for s, e in bounds if e > s] or [log_ratio])
        # the token's own gradient at the segment's value
        log_ratio = mean.detach() + log_ratio - log_ratio.detach() if loss == "gspo_token" else mean
    if log_ratio_clip is not None:
        log_ratio = log_ratio.clamp(-log_ratio_clip, log_ratio_clip)
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    if loss in ("clip", "gspo", "gspo_token"):
        free, bound = -ratio * advantages, -bounded * advantages
        clipped, ceiling = bound > free, bound
        if dual_clip is not None:
            worst = -dual_clip * advantages
            beyond = (advantages < 0) & (torch.maximum(free, bound) > worst)
            clipped, ceiling = clipped | beyond, torch.where(beyond, worst, bound)
        free = -_held(log_ratio, pulls & ~clipped).exp() * advantages
        surrogate = torch.where(clipped, ceiling.detach(), free)
    elif loss == "gmpo":
        surrogate, clipped = -_held(log_ratio, pulls).exp() * advantages, beyond_bounds
    elif loss == "sapo":
        tau = torch.where(advantages > 0, tau_pos, tau_neg).to(ratio.dtype)
        steep = _held(log_ratio, pulls & (ratio < 1e6)).exp()
        surrogate = -4 / tau * torch.sigmoid(tau * (steep - 1)) * advantages
        clipped = torch.zeros_like(ratio, dtype=torch.bool)
    elif loss in ("dppo", "dppo_kl"):
        p, old = logprobs.detach().exp(), (logprobs.detach() if old_logprobs is None else old_logprobs).exp()
        if loss == "dppo":
            clipped = torch.where(advantages > 0, p - old > clip_high, old - p > clip_low)
        else:
            rest = ((1 - old + 1e-8) / (1 - p + 1e-8)).log()
            moved = old * (old.log() - p.log()) + (1 - old) * rest
            clipped = torch.where(
                advantages > 0, (moved > clip_high) & (p > old), (moved > clip_low) & (p < old)
            )
        surrogate = torch.where(clipped, 0.0, -_held(log_ratio, pulls & ~clipped).exp() * advantages)
    elif loss == "cispo":
        surrogate = -bounded.detach() * advantages * _held(logprobs, pulls)
        clipped = ratio != bounded
    else:  # reinforce
        surrogate = -advantages * _held(logprobs, pulls)
        clipped = torch.zeros_like(ratio, dtype=torch.bool)
    if importance_weights is not None:
        surrogate = surrogate * importance_weights
    per_token = torch.where(pulls, surrogate, 0.0)

    kl_value = torch.zeros_like(logprobs)
    if ref_logprobs is not None:
        gap = ref_logprobs - _held(logprobs, present)
        if kl_clip is not None:
            gap = gap.clamp(-kl_clip[0], kl_clip[0])
            gap = _held(gap, _estimate(kl, gap).abs() <= kl_clip[1])
        kl_value = _estimate(kl, gap)
        if kl_clip is not None:
            kl_value = kl_value.clamp(-kl_clip[1], kl_clip[1])
    if kl_coef:
        per_token = per_token + kl_coef * kl_value
    if entropy_coef and entropy is not None:
        per_token = per_token - entropy_coef * _held(entropy, present)
    if token_weights is not None:
        per_token = torch.where(present, per_token * token_weights, 0.0)
    return PolicyLossRef(per_token.sum(), logprobs, ratio, clipped, kl_value, entropy)


def _estimate(kl: str, gap: Tensor) -> Tensor:
    """KL(policy || reference) from one token, gap = ref_logprobs - logprobs."""
    if kl == "k1":
        return -gap
    return gap**2 / 2 if kl == "k2" else gap.expm1() - gap


def _held(x: Tensor, moves: Tensor) -> Tensor:
    """x, with a gradient only where ``moves``."""
    return torch.where(moves, x, x.detach())


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
