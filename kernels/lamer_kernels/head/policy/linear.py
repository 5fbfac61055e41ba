"""linear_policy_loss: the public function, its checks, and the losses that other calls are made of."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..._core.checks import check_choice, check_tensor
from ..._core.dispatch import resolve_backend
from ..checks import head_inputs, left_out, spread
from ..logprob import linear_logprob
from ..projection import accumulation_dtype
from .checks import check_goes_with, checked_config, checked_tokens
from .covariance import COVARIANCE, Covariance, choose
from .fused import by_reference, fused
from .op import PolicyLoss, policy_loss
from .own import is_registered
from .terms import LossConfig, TokenData

COMPACT = ("host", "data", "none")


def linear_policy_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    *,
    token_idx: Tensor | None = None,
    token_weights: Tensor | None = None,
    cu_segments: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
    ignore_index: int | None = -100,
    loss: str = "clip",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    log_ratio_clip: float | None = None,
    ref_logprobs: Tensor | None = None,
    kl: str = "k3",
    kl_coef: float = 0.0,
    kl_clip: tuple[float, float] | None = None,
    entropy_coef: float = 0.0,
    importance_weights: Tensor | None = None,
    tau_pos: float = 1.0,
    tau_neg: float = 1.05,
    covariance: Covariance | None = None,
    loss_options: Mapping[str, object] | None = None,
    dweight_out: Tensor | None = None,
    weight_cast: Tensor | None = None,
    compact: str = "host",
    workspace_bytes: int | None = None,
    backend: str = "auto",
    validate: bool = False,
) -> PolicyLoss:
    """``sum_l token_weights[l] * loss_l`` of a language-model head and its gradients, without a [T, V]
    tensor.

    With r = exp(logprob - old_logprob), A the advantage, b(r) = clamp(r, 1 - clip_low, 1 + clip_high)::

        clip       -min(r A, b(r) A); with dual_clip c also at most -c A where A < 0
        gspo       the same with r = exp(mean over the token's segment of logprob - old_logprob)
        gspo_token that value, and a gradient in which each token moves its own ratio alone (verl, SkyRL)
        gmpo       -r A with r = exp(mean over the token's segment of the log ratio), each first held below
            clip_high where A > 0 and above -clip_low where A < 0
        sapo       -(4 / tau) sigmoid(tau (r - 1)) A with tau_pos where A > 0, else tau_neg
        dppo       -r A, and 0 where A > 0 and p - p_old > clip_high, or A <= 0 and p_old - p > clip_low, with
            p = exp(logprob); dppo_kl bounds the KL of taking the token or not in place of the difference
        cispo      -stop_gradient(b(r)) A logprob
        reinforce  -A logprob
        clip_cov   clip, but 0 on a few tokens drawn from those whose covariance of advantage and log-prob is
            between covariance.low and covariance.high
        kl_cov     -r A, + covariance.coef |logprob - old_logprob| on the tokens of largest covariance
        all        x importance_weights, + kl_coef * KL, - entropy_coef * entropy
        KL         k1: logprob - ref;  k2: (logprob - ref)^2 / 2;  k3: exp(ref - logprob) - 1 - (ref -
            logprob)

    Sources: PPO arXiv 1707.06347, GSPO 2507.18071, GMPO 2507.20673, SAPO 2511.20347, DPPO 2602.04879, CISPO
    2506.13585, Clip-Cov and KL-Cov 2505.22617. ppo and dapo are clip with ``token_weights("token_mean")``
    (dapo: clip_high > clip_low), grpo is clip with ``"sequence_mean"``, dr_grpo clip with ``"constant"``.
    Gradients are computed here, in the forward pass, where gradients are enabled; ``loss.backward()`` only
    scales them.

    Args:
        hidden, weight, targets, token_idx, temperature, bias, softcap, ignore_index, weight_cast: as in
            linear_logprob. Token data have the shape of targets, and so have the statistics.
        old_logprobs: [L] fp32, nats. None: those of this very pass, so that r = 1.
        advantages: [L] fp32.
        token_weights: [L] fp32, the aggregation; None is 1 each. Weight 0 takes a token out, whatever its
            ratio.
        cu_segments: [U+1] int64, for gspo, gspo_token and gmpo: segments of L over which the ratio is
            averaged, such as turns.
        dual_clip: > 1, or None.
        log_ratio_clip: bound of the log ratio before exp (verl: 20), which has no gradient where it acts; for
            gspo that of the segment's mean.
        kl_clip: (bound of ref - logprob, bound of the estimate), such as verl's (20, 10); no gradient where
            one acts, math.inf is no bound.
        ref_logprobs: [L] fp32; without kl_coef they only fill the KL statistic.
        importance_weights: [L] fp32, such as truncated ratios against the sampler's log-probs.
        tau_pos, tau_neg: > 0, of sapo.
        covariance: of clip_cov and kl_cov: share of the tokens that are chosen, bounds, coefficient, seed of
            the draw. The statistics need all log-probs first: one more product of the head.
        loss_options: keywords for a loss that another package registers (entry points of
            ``lamer_kernels.losses``): a function of (logprobs, old_logprobs, advantages, **loss_options), all
            [L], that returns the loss of each token. Its gradient comes by autograd, behind linear_logprob;
            weights, KL and entropy terms are as with the others, and dweight_out is refused.
        dweight_out: [V, H] fp32 (fp64): d loss / d weight is added here, and ``weight`` gets no gradient
            through autograd. For accumulation over micro-batches in float32; the upstream gradient is taken
            to be 1.
        compact: "host" leaves out tokens that have no coefficient as far as the host knows: weight 0, or
            advantage 0 without KL and entropy terms, read from CPU tensors (advantages and token_weights may
            stay on the CPU when the rest is on a GPU). "data" also takes rows without gradient out of the
            backward GEMMs, at one synchronisation per chunk. "none" computes all. What is left out adds
            exactly 0 to loss and gradients.
        workspace_bytes: for logits; default as in linear_logprob.
        validate: also check values (targets, token_idx, temperature, cu_segments) on a GPU, which
            synchronises; on a CPU they always are.

    Returns:
        PolicyLoss: the scalar and per-token statistics [L], float32 (float64 for float64 inputs).

    Raises:
        ValueError: an unsupported combination, or shapes, dtypes or devices that disagree; the message names
            both.
    """
    given = head_inputs(
        hidden, weight, targets, token_idx=token_idx, temperature=temperature, bias=bias, softcap=softcap,
        weight_cast=weight_cast, ignore_index=ignore_index, workspace_bytes=workspace_bytes,
        validate=validate,
    )  # fmt: skip
    check_choice("compact", compact, COMPACT)
    head = dict(
        temperature=temperature, bias=bias, softcap=softcap, ignore_index=ignore_index,
        weight_cast=weight_cast, workspace_bytes=workspace_bytes, backend=backend, validate=validate,
    )  # fmt: skip
    switches = dict(
        cu_segments=cu_segments, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip,
        log_ratio_clip=log_ratio_clip, tau_pos=tau_pos, tau_neg=tau_neg, covariance=covariance,
        dweight_out=dweight_out, compact=compact,
    )  # fmt: skip
    if is_registered(loss, loss_options, switches):
        terms = dict(
            loss=loss, loss_options=loss_options, ref_logprobs=ref_logprobs, kl=kl, kl_coef=kl_coef,
            kl_clip=kl_clip, entropy_coef=entropy_coef, importance_weights=importance_weights,
        )  # fmt: skip
        data = (old_logprobs, advantages, token_weights)
        return _registered((hidden, weight, targets, token_idx), data, head, terms)
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
        return _by_covariance(
            (hidden, weight, targets, token_idx), (old_logprobs, advantages, token_weights),
            covariance or Covariance(), head, options,
            dict(entropy_coef=entropy_coef, dweight_out=dweight_out, compact=compact),
        )  # fmt: skip
    tokens = TokenData(old_logprobs, advantages, token_weights, ref_logprobs, importance_weights, cu_segments)
    config = checked_config(config, tokens)
    tokens = checked_tokens(tokens, hidden, given.shape, validate)
    acc = accumulation_dtype(hidden.dtype)
    if dweight_out is not None:
        check_tensor("dweight_out", dweight_out, shape=tuple(weight.shape), dtypes=(acc,), like=hidden)
        if dweight_out.requires_grad:
            raise ValueError("dweight_out is added to in place, got a tensor that requires a gradient")
    backend = resolve_backend(backend, hidden.device)

    idx = None
    if left_out(given, backend):
        assert given.present is not None
        idx = given.present.nonzero().squeeze(1)
        tokens = tokens.to(hidden.new_empty(0, dtype=acc)).select(given.present, idx)
        given, shape = given.at(idx), given.shape
    tokens = replace(tokens, present=given.present)
    if backend == "reference":
        out = by_reference(
            given, weight, bias, tokens.to(hidden.new_empty(0, dtype=acc)), config, dweight_out
        )
    else:
        out = fused(given, weight, weight_cast, bias, tokens, config, dweight_out, compact, backend)
    if idx is not None:
        return PolicyLoss(out.loss, *(spread(x, idx, shape) for x in out[1:] if x is not None))
    return PolicyLoss(out.loss, *(given.shaped(x) for x in out[1:] if x is not None))


def _by_covariance(
    rows: tuple[Tensor, Tensor, Tensor, Tensor | None],
    data: tuple[Tensor | None, Tensor, Tensor | None],
    covariance: Covariance,
    head: dict[str, Any],
    options: dict[str, Any],
    rest: dict[str, Any],
) -> PolicyLoss:
    """clip_cov and kl_cov: log-probs of all tokens, the choice, then loss `clip` and what is added to it."""
    hidden, weight, targets, token_idx = rows
    old_logprobs, advantages, token_weights = data
    with torch.no_grad():
        logprobs = linear_logprob(hidden, weight, targets, token_idx=token_idx, **head).logprobs
    absent = None if head["ignore_index"] is None else targets == head["ignore_index"]
    weights = token_weights
    if absent is not None:
        ones = torch.ones_like(logprobs) if token_weights is None else token_weights.to(logprobs)
        weights = torch.where(absent, 0.0, ones)
    chosen = choose(covariance, logprobs, old_logprobs, advantages, weights, options)
    out = linear_policy_loss(
        hidden, weight, targets, old_logprobs, advantages, token_idx=token_idx, token_weights=token_weights,
        **chosen.options, **head, **rest,
    )  # fmt: skip
    total = out.loss
    if chosen.slope is not None and old_logprobs is not None and bool(chosen.tokens.any()):
        at = chosen.tokens.flatten().nonzero()[:, 0]
        slope = chosen.slope.reshape(-1)[at].contiguous()
        weight_of = torch.ones_like(slope) if weights is None else weights.reshape(-1)[at]
        temperature = head["temperature"]
        if isinstance(temperature, Tensor) and temperature.ndim:
            temperature = temperature.reshape(-1)[at]
        added = linear_policy_loss(  # its gradient is that of slope x logprob
            hidden.reshape(-1, hidden.shape[-1]), weight, targets.reshape(-1)[at], None, -slope,
            token_idx=at if token_idx is None else token_idx.reshape(-1)[at], token_weights=weight_of,
            loss="reinforce", dweight_out=rest["dweight_out"],
            **(head | {"temperature": temperature, "ignore_index": None}),
        )  # fmt: skip
        total = total + added.loss - (slope * old_logprobs.reshape(-1)[at] * weight_of).sum()
    return out._replace(loss=total, clipped=out.clipped | chosen.tokens)


def _registered(
    rows: tuple[Tensor, Tensor, Tensor, Tensor | None],
    data: tuple[Tensor | None, Tensor, Tensor | None],
    head: dict[str, Any],
    terms: dict[str, Any],
) -> PolicyLoss:
    """A loss of another package: log-probs with a gradient, then policy_loss of them."""
    hidden, weight, targets, token_idx = rows
    old_logprobs, advantages, token_weights = data
    made = linear_logprob(hidden, weight, targets, token_idx=token_idx, entropy=True, **head)
    present = torch.ones_like(targets, dtype=torch.bool)
    if head["ignore_index"] is not None:
        present = targets != head["ignore_index"]
        ones = torch.ones_like(made.logprobs) if token_weights is None else token_weights.to(made.logprobs)
        token_weights = torch.where(present, ones, 0.0)
    out = policy_loss(
        made.logprobs, old_logprobs, advantages, token_weights=token_weights, entropy=made.entropy,
        backend=head["backend"], validate=head["validate"], **terms,
    )  # fmt: skip
    ratio, kl = (torch.where(present, x, 0.0) for x in (out.ratio, out.kl))
    return out._replace(ratio=ratio, kl=kl, kept=present)
