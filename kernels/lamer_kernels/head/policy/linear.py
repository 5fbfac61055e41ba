"""linear_policy_loss: the custom op, and the public function with its checks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..._core.checks import check_choice, check_tensor
from ..._core.dispatch import resolve_backend, without_autocast
from ..._core.namespace import qualified
from ..checks import HeadInputs, head_inputs, head_of, left_out, spread
from ..logprob import linear_logprob
from ..projection import (
    Slabs,
    accumulation_dtype,
    finish_dweight,
    max_chunk_tokens,
    new_dweight,
    scatter_rows,
)
from .checks import check_goes_with, checked_config, checked_tokens
from .covariance import COVARIANCE, Covariance, choose
from .forward import Wanted, forward
from .gradients import attach_gradients, stored_dtype
from .op import PolicyLoss, policy_loss
from .own import is_registered
from .reference import PolicyLossRef, linear_policy_loss_ref
from .terms import OF_SEGMENTS, LossConfig, TokenData

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
    if loss in COVARIANCE or covariance is not None:
        check_goes_with(loss, covariance)
        options = dict(
            cu_segments=cu_segments, loss=loss, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip,
            log_ratio_clip=log_ratio_clip, ref_logprobs=ref_logprobs, kl=kl, kl_coef=kl_coef, kl_clip=kl_clip,
            importance_weights=importance_weights, tau_pos=tau_pos, tau_neg=tau_neg,
        )  # fmt: skip
        return _by_covariance(
            (hidden, weight, targets, token_idx), (old_logprobs, advantages, token_weights),
            covariance or Covariance(), head, options,
            dict(entropy_coef=entropy_coef, dweight_out=dweight_out, compact=compact),
        )  # fmt: skip
    tokens = TokenData(old_logprobs, advantages, token_weights, ref_logprobs, importance_weights, cu_segments)
    config = checked_config(
        LossConfig(
            loss,
            clip_low,
            clip_high,
            dual_clip,
            log_ratio_clip,
            kl,
            kl_coef,
            kl_clip,
            entropy_coef,
            tau_pos,
            tau_neg,
        ),
        tokens,
    )
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
        out = _reference(given, weight, bias, tokens.to(hidden.new_empty(0, dtype=acc)), config, dweight_out)
    else:
        out = _fused(given, weight, weight_cast, bias, tokens, config, dweight_out, compact, backend)
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


def _fused(
    given: HeadInputs,
    weight: Tensor,
    weight_cast: Tensor | None,
    bias: Tensor | None,
    tokens: TokenData,
    config: LossConfig,
    dweight_out: Tensor | None,
    compact: str,
    backend: str,
) -> PolicyLoss:
    leaves, with_grad = [given.hidden, weight, bias], torch.is_grad_enabled()
    needs = [with_grad and x is not None and x.requires_grad for x in leaves]
    needs[1] &= dweight_out is None
    total, *rest = _linear_policy_loss(
        given.hidden.detach(),
        weight.detach(),
        weight_cast,
        None if bias is None else bias.detach(),
        dweight_out if with_grad else None,
        [given.targets, given.token_idx, given.temperatures],
        given.numbers,
        tokens.flat(),
        config.flat(),
        needs,
        compact,
        backend,
    )
    statistics, gradients = rest[:6], rest[6:]
    pairs = [(x, g) for x, g, need in zip(leaves, gradients, needs, strict=True) if x is not None and need]
    if pairs:
        total = attach_gradients(total, [x for x, _ in pairs], [g for _, g in pairs])
    return PolicyLoss(total, *statistics)


@torch.library.custom_op(qualified("linear_policy_loss"), mutates_args=("dweight_out",))
@without_autocast
def _linear_policy_loss(
    hidden: Tensor,
    weight: Tensor,
    weight_cast: Tensor | None,
    bias: Tensor | None,
    dweight_out: Tensor | None,
    rows: Sequence[Tensor | None],
    head_numbers: Sequence[float],
    token_data: Sequence[Tensor | None],
    loss_numbers: Sequence[float],
    needs: Sequence[bool],
    compact: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """loss [], logprobs, ratio, clipped, kl, entropy, kept [L], dhidden [T, H], dweight [V, H], dbias [V].

    rows: targets, token_idx, temperatures; head_numbers: HeadInputs.numbers; token_data: TokenData.flat();
    loss_numbers: LossConfig.flat(); needs: of hidden, weight, bias.
    """
    targets, token_idx, temperatures = rows
    assert targets is not None
    acc, num_tokens = accumulation_dtype(hidden.dtype), targets.shape[0]
    config, tokens = LossConfig.of_flat(loss_numbers), TokenData(*token_data)  # type: ignore[arg-type]
    need_hidden, need_weight, need_bias = needs
    workspace = int(head_numbers[-1])
    kept = tokens.kept(config) if compact != "none" else None
    idx = None  # of the tokens that are computed, in their order
    if kept is not None:
        idx = kept.nonzero().squeeze(1).to(hidden.device, non_blocking=True)
        tokens = tokens.to(hidden.new_empty(0, dtype=acc)).select(kept, idx)
    tokens = tokens.to(hidden.new_empty(0, dtype=acc))
    if config.loss in OF_SEGMENTS and tokens.present is not None:
        tokens, order = tokens.present_first(tokens.present)
        idx = order if idx is None else idx[order]
    tokens = tokens.weighed()
    if idx is not None:
        targets = targets[idx]
        token_idx = idx if token_idx is None else token_idx[idx]
        temperatures = None if temperatures is None else temperatures[idx]
    head = head_of((weight, weight_cast, bias), temperatures, head_numbers, hidden.dtype)
    x = hidden if token_idx is None else hidden[token_idx]
    dx = x.new_empty(x.shape) if need_hidden else None
    dweight = None if dweight_out is None else Slabs([dweight_out], written=True)
    if need_weight:
        stored, most = stored_dtype(weight.dtype), max_chunk_tokens(x, len(weight), workspace, backend)
        # of one chunk it is one product, which rounds its float32 sums once
        alone = x.is_cuda and stored is x.dtype and 0 < len(x) <= most
        dweight = new_dweight(weight, stored if alone else acc)
    scale = None
    if hidden.dtype is torch.float16:
        tokens, scale = tokens.scaled(config)
        if dweight_out is not None:
            dweight_out *= scale
    dbias = torch.zeros(weight.shape[0], dtype=acc, device=weight.device) if need_bias else None
    done = forward(
        x,
        targets,
        head,
        tokens,
        config,
        Wanted(dx, dweight, dbias),
        skip_idle_rows=compact == "data",
        workspace_bytes=workspace,
        backend=backend,
    )
    terms = done.terms
    total = terms.loss.sum(dtype=torch.float64)
    if scale is not None:
        total /= scale
        dx = None if dx is None else dx.to(acc)
        for gradient in (dx, dbias, *(dweight or ())):
            if gradient is not None:
                gradient /= scale
    statistics = [done.logprobs, terms.ratio, terms.clipped, terms.kl, done.entropy]
    if idx is not None:
        statistics = [s.new_zeros(num_tokens).index_copy_(0, idx, s) for s in statistics]
    if kept is not None:
        kept = kept.to(hidden.device, non_blocking=True)
    none = hidden.new_empty
    return (
        total.to(acc),
        *statistics,
        torch.ones(num_tokens, dtype=torch.bool, device=hidden.device) if kept is None else kept,
        none(0) if dx is None else scatter_rows(dx, token_idx, hidden.shape[0]),
        finish_dweight(dweight, stored_dtype(weight.dtype)) if need_weight and dweight else none(0),
        none(0) if dbias is None or bias is None else dbias.to(stored_dtype(bias.dtype)),
    )  # type: ignore[return-value]


@_linear_policy_loss.register_fake
def _(hidden, weight, weight_cast, bias, dweight_out, rows, *rest):  # type: ignore[no-untyped-def]
    needs = rest[-3]
    acc, num_tokens = accumulation_dtype(hidden.dtype), rows[0].shape[0]
    numbers = [hidden.new_empty(num_tokens, dtype=acc) for _ in range(4)]
    flags = [hidden.new_empty(num_tokens, dtype=torch.bool) for _ in range(2)]
    return (
        hidden.new_empty((), dtype=acc),
        numbers[0],
        numbers[1],
        flags[0],
        numbers[2],
        numbers[3],
        flags[1],
        *(
            x.new_empty(x.shape, dtype=stored_dtype(x.dtype)) if need else hidden.new_empty(0)
            for x, need in zip((hidden, weight, bias), needs, strict=True)
        ),
    )


def _reference(
    given: HeadInputs,
    weight: Tensor,
    bias: Tensor | None,
    tokens: TokenData,
    config: LossConfig,
    dweight_out: Tensor | None,
) -> PolicyLoss:
    own_weight = weight if dweight_out is None else weight.detach().requires_grad_(torch.is_grad_enabled())

    def run(given: HeadInputs, tokens: TokenData) -> PolicyLossRef:
        return linear_policy_loss_ref(
            given.hidden, own_weight, given.targets, token_idx=given.token_idx,
            temperature=given.temperature, bias=bias, softcap=given.softcap, **tokens.named(), **vars(config),
        )  # fmt: skip

    tokens = tokens.weighed()
    # autograd would make NaN of 0 x NaN: a token without a coefficient is only looked at
    kept = tokens.kept(config, look=True)
    if kept is None:
        seen = ref = run(given, tokens)
    else:
        with torch.no_grad():
            seen = run(given, tokens)
        idx = kept.nonzero().squeeze(1).to(given.hidden.device)
        ref = run(given.at(idx), tokens.select(kept, idx))
    if dweight_out is not None and torch.is_grad_enabled():
        (dweight,) = torch.autograd.grad(ref.loss, own_weight, retain_graph=True)
        dweight_out += dweight
    every = torch.ones_like(given.targets, dtype=torch.bool)
    _, logprobs, ratio, clipped, kl, entropy = (None if x is None else x.detach() for x in seen)
    return PolicyLoss(ref.loss, logprobs, ratio, clipped, kl, entropy, every)  # type: ignore[arg-type]
