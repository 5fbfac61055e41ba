"""policy_loss: the losses for those who already have log-probs."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..._core.checks import check_tensor
from ..._core.dispatch import resolve_backend
from ..checks import ACC_DTYPES
from .checks import check_goes_with, checked_config, checked_tokens
from .covariance import COVARIANCE, Covariance, choose
from .gradients import attach_gradients
from .own import is_registered, registered_loss
from .reference import policy_loss_ref
from .terms import OF_SEGMENTS, LossConfig, TokenData, policy_terms


class PolicyLoss(NamedTuple):
    """``loss`` is the scalar to differentiate; the rest are statistics per loss token."""

    loss: Tensor
    logprobs: Tensor
    ratio: Tensor
    """exp(logprobs - old_logprobs), for gspo, gspo_token and gmpo that of the segment."""
    clipped: Tensor
    """bool: the clip acts on this token."""
    kl: Tensor
    """The estimate against ref_logprobs, 0 without them."""
    entropy: Tensor | None
    kept: Tensor
    """bool: computed. A token dropped for having no coefficient has statistics 0."""


def policy_loss(
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
    covariance: Covariance | None = None,
    loss_options: Mapping[str, object] | None = None,
    backend: str = "auto",
    validate: bool = False,
) -> PolicyLoss:
    """``sum(token_weights * loss)`` from log-probs [L] that you already have; linear_policy_loss lists the
    losses.

    Args:
        logprobs: [L], L one or more axes, fp32 or fp64, gets a gradient; so does ``entropy`` [L], which
            entropy_coef needs. Token data and statistics have the same shape.

        loss_options: keywords for a loss that another package registers.

    Raises:
        ValueError: an unsupported combination; shapes, dtypes or devices that disagree, both named.
    """
    check_tensor("logprobs", logprobs, shape=None, dtypes=ACC_DTYPES)
    shape = tuple(logprobs.shape)
    if entropy is not None:
        check_tensor("entropy", entropy, shape=shape, dtypes=(logprobs.dtype,), like=logprobs)
        entropy = entropy.reshape(-1)
    if entropy_coef and entropy is None:
        raise ValueError(f"entropy_coef {entropy_coef} needs entropy, got None")
    given = dict(
        cu_segments=cu_segments, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip,
        log_ratio_clip=log_ratio_clip, tau_pos=tau_pos, tau_neg=tau_neg, covariance=covariance,
    )  # fmt: skip
    if is_registered(loss, loss_options, given):
        none = torch.zeros_like(advantages).requires_grad_(advantages.requires_grad)
        common = policy_loss(  # without advantages: what all losses share
            logprobs, old_logprobs, none, token_weights=token_weights, ref_logprobs=ref_logprobs,
            kl=kl, kl_coef=kl_coef, kl_clip=kl_clip, entropy=None if entropy is None else entropy.view(shape),
            entropy_coef=entropy_coef, importance_weights=importance_weights, backend=backend,
            validate=validate,
        )  # fmt: skip
        own = registered_loss(
            loss, loss_options, logprobs, old_logprobs, advantages, token_weights, importance_weights
        )
        return common._replace(loss=common.loss + own)
    config = LossConfig(
        loss, clip_low, clip_high, dual_clip, log_ratio_clip, kl, kl_coef, kl_clip, entropy_coef, tau_pos,
        tau_neg,
    )  # fmt: skip
    if loss in COVARIANCE or covariance is not None:
        check_goes_with(loss, covariance)
        given_as = dict(
            cu_segments=cu_segments, ref_logprobs=ref_logprobs, importance_weights=importance_weights
        )
        options = config.options() | given_as
        data = (old_logprobs, advantages, token_weights)
        for name, x in zip(("old_logprobs", "advantages", "token_weights"), data, strict=True):
            if x is not None:
                check_tensor(name, x, shape=shape, dtypes=ACC_DTYPES)
        chosen = choose(covariance or Covariance(), logprobs.detach(), *data, options)
        out = policy_loss(
            logprobs, old_logprobs, advantages, token_weights=token_weights, **chosen.options,
            entropy=None if entropy is None else entropy.view(shape), entropy_coef=entropy_coef,
            backend=backend, validate=validate,
        )  # fmt: skip
        total = out.loss
        if chosen.slope is not None and old_logprobs is not None:
            total = total + chosen.extra(logprobs, old_logprobs, token_weights)
        return out._replace(loss=total, clipped=out.clipped | chosen.tokens)
    logprobs = logprobs.reshape(-1)
    tokens = TokenData(old_logprobs, advantages, token_weights, ref_logprobs, importance_weights, cu_segments)
    config = checked_config(config, tokens)
    tokens = checked_tokens(tokens, logprobs, shape, validate).to(logprobs)

    values = logprobs.detach()
    entropies = None if entropy is None else entropy.detach()
    resolved = resolve_backend(backend, logprobs.device)
    if resolved == "reference":
        ref = policy_loss_ref(logprobs, entropy=entropy, **tokens.named(), **vars(config))
        total, statistics = ref.loss, (ref.ratio.detach(), ref.clipped, ref.kl.detach())
    else:
        compute = policy_terms
        alone = config.loss not in OF_SEGMENTS  # of a segment the kernel sees one token
        if resolved == "triton" and alone and values.dtype is torch.float32:
            from .launch import policy_terms as compute
        terms = compute(config, values, entropies, tokens)
        total, statistics = terms.loss.sum(dtype=torch.float64).to(logprobs.dtype), terms[3:]
        pairs = [(logprobs, terms.grad_logprobs)]
        if entropy is not None and terms.grad_entropy is not None:
            pairs.append((entropy, terms.grad_entropy))
        total = attach_gradients(total, [x for x, _ in pairs], [g for _, g in pairs])
    kept = torch.ones_like(logprobs, dtype=torch.bool)
    columns = (values, *statistics, entropies, kept)
    return PolicyLoss(total, *(None if x is None else x.view(shape) for x in columns))  # type: ignore[arg-type]
