"""Triton: statistics, loss and dlogits of a token row in one program; no torch here."""

import triton
import triton.language as tl

from ..logprob.gpu import PER_ROW, exp_less_tangent, row_stats, write_row

PER_TOKEN = [
    *PER_ROW, "old_ptr", "advantages_ptr", "weights_ptr", "ref_ptr", "importance_ptr",
    "loss_ptr", "grad_ptr", "ratio_ptr", "clipped_ptr", "kl_ptr",
]  # fmt: skip


@triton.jit
def clamp(x, bound):
    """x within +-bound; NaN stays NaN."""
    return tl.where(tl.abs(x) > bound, tl.where(x > 0, bound, -bound), x)


@triton.jit
def token_terms(
    row, logprob, entropy, old_ptr, advantages_ptr, weights_ptr, ref_ptr, importance_ptr,
    clip_low, clip_high, dual_clip, log_ratio_clip, kl_coef, max_gap, max_kl, entropy_coef, tau_pos, tau_neg,
    LOSS: tl.constexpr, KL: tl.constexpr, HAS_DUAL_CLIP: tl.constexpr, HAS_LOG_RATIO_CLIP: tl.constexpr,
    HAS_KL_CLIP: tl.constexpr, HAS_OLD: tl.constexpr, HAS_WEIGHTS: tl.constexpr, HAS_REF: tl.constexpr,
    HAS_IMPORTANCE: tl.constexpr,
):  # fmt: skip
    """``terms.py`` for one token; the same names. Loss, its slopes by logprob and entropy, ratio, clipped,
    kl."""
    advantage = tl.load(advantages_ptr + row)
    log_ratio = tl.where(logprob != logprob, logprob, 0.0)
    if HAS_OLD:
        log_ratio = logprob - tl.load(old_ptr + row)
    held = tl.zeros([], tl.int1)
    if HAS_LOG_RATIO_CLIP:
        held = tl.abs(log_ratio) > log_ratio_clip
        log_ratio = clamp(log_ratio, log_ratio_clip)
    ratio = tl.exp(log_ratio)
    bounded = tl.minimum(tl.maximum(ratio, 1.0 - clip_low), 1.0 + clip_high)
    if LOSS == "reinforce":
        surrogate = -advantage * logprob
        slope = -advantage
        clipped = tl.zeros([], tl.int1)
    elif LOSS == "sapo":
        tau = tl.where(advantage > 0, tau_pos, tau_neg)
        e = tl.exp(-tl.abs(tau * (ratio - 1.0)))
        gate = tl.where(ratio > 1.0, 1.0, e) / (1.0 + e)
        curve = e / ((1.0 + e) * (1.0 + e))  # gate (1 - gate)
        surrogate = -4.0 / tau * gate * advantage
        slope = tl.where(curve == 0, 0.0, -4.0 * curve * ratio * advantage)
        slope = tl.where(held, 0.0, slope)
        clipped = tl.zeros([], tl.int1)
    elif LOSS == "dppo" or LOSS == "dppo_kl":
        clipped = tl.zeros([], tl.int1)
        if HAS_OLD:
            old_logprob = tl.load(old_ptr + row)
            p = tl.exp(logprob)
            old = tl.exp(old_logprob)
            if LOSS == "dppo":
                clipped = tl.where(advantage > 0, p - old > clip_high, old - p > clip_low)
            else:
                rest = tl.log((1.0 - old + 1e-8) / (1.0 - p + 1e-8))
                moved = old * (old_logprob - logprob) + (1.0 - old) * rest
                up = (moved > clip_high) & (p > old)
                down = (moved > clip_low) & (p < old)
                clipped = tl.where(advantage > 0, up, down)
        surrogate = tl.where(clipped, 0.0, -ratio * advantage)
        slope = tl.where(held, 0.0, surrogate)
    elif LOSS == "cispo":
        slope = -bounded * advantage
        surrogate = slope * logprob
        clipped = ratio != bounded
    else:
        free = -ratio * advantage
        bound = -bounded * advantage
        clipped = bound > free
        surrogate = tl.maximum(free, bound)
        if HAS_DUAL_CLIP:
            worst = -dual_clip * advantage
            beyond = (advantage < 0) & (surrogate > worst)
            surrogate = tl.where(beyond, worst, surrogate)
            clipped = clipped | beyond
        slope = tl.where(clipped | held, 0.0, free)
    pulls = advantage != 0
    if HAS_IMPORTANCE:
        importance = tl.load(importance_ptr + row)
        pulls = pulls & (importance != 0)
        surrogate *= importance
        slope *= importance
    surrogate = tl.where(pulls, surrogate, 0.0)
    slope = tl.where(pulls, slope, 0.0)

    kl = tl.zeros([], tl.float32)
    if HAS_REF:
        gap = tl.load(ref_ptr + row) - logprob
        held = tl.zeros([], tl.int1)
        if HAS_KL_CLIP:
            held = tl.abs(gap) > max_gap
            gap = clamp(gap, max_gap)
        if KL == "k1":
            kl = -gap
            kl_slope = tl.full([], 1.0, tl.float32)
        elif KL == "k2":
            kl = gap * gap / 2
            kl_slope = -gap
        else:
            kl, e_gap = exp_less_tangent(gap)
            kl_slope = -e_gap
        if HAS_KL_CLIP:
            kl_slope = tl.where(held | (tl.abs(kl) > max_kl), 0.0, kl_slope)
            kl = clamp(kl, max_kl)
        surrogate += tl.where(kl_coef != 0, kl_coef * kl, 0.0)
        slope += tl.where(kl_coef != 0, kl_coef * kl_slope, 0.0)
    loss = surrogate - tl.where(entropy_coef != 0, entropy_coef * entropy, 0.0)
    grad_entropy = -entropy_coef
    if HAS_WEIGHTS:
        weight = tl.load(weights_ptr + row)
        loss = tl.where(weight != 0, loss * weight, 0.0)
        slope = tl.where(weight != 0, slope * weight, 0.0)
        grad_entropy = grad_entropy * weight
    return loss, slope, grad_entropy, ratio, clipped, kl


@triton.jit
def store_terms(
    row, loss, slope, ratio, clipped, kl, loss_ptr, grad_ptr, ratio_ptr, clipped_ptr, kl_ptr
):  # fmt: skip
    tl.store(loss_ptr + row, loss)
    tl.store(grad_ptr + row, slope)
    tl.store(ratio_ptr + row, ratio)
    tl.store(clipped_ptr + row, clipped.to(tl.int8))
    tl.store(kl_ptr + row, kl)


@triton.jit(do_not_specialize_on_alignment=PER_TOKEN)
def policy_terms_kernel(
    logprobs_ptr, entropy_ptr, old_ptr, advantages_ptr, weights_ptr, ref_ptr, importance_ptr,
    loss_ptr, grad_ptr, ratio_ptr, clipped_ptr, kl_ptr,
    clip_low, clip_high, dual_clip, log_ratio_clip, kl_coef, max_gap, max_kl, entropy_coef, tau_pos, tau_neg,
    LOSS: tl.constexpr, KL: tl.constexpr, HAS_DUAL_CLIP: tl.constexpr, HAS_LOG_RATIO_CLIP: tl.constexpr,
    HAS_KL_CLIP: tl.constexpr, HAS_OLD: tl.constexpr, HAS_WEIGHTS: tl.constexpr, HAS_REF: tl.constexpr,
    HAS_IMPORTANCE: tl.constexpr, HAS_ENTROPY: tl.constexpr,
):  # fmt: skip
    """One program per token whose log-probability is known."""
    row = tl.program_id(0).to(tl.int64)
    logprob = tl.load(logprobs_ptr + row)
    entropy = 0.0
    if HAS_ENTROPY:
        entropy = tl.load(entropy_ptr + row)
    loss, slope, _, ratio, clipped, kl = token_terms(
        row, logprob, entropy, old_ptr, advantages_ptr, weights_ptr, ref_ptr, importance_ptr,
        clip_low, clip_high, dual_clip, log_ratio_clip, kl_coef, max_gap, max_kl, entropy_coef, tau_pos,
        tau_neg, LOSS, KL, HAS_DUAL_CLIP, HAS_LOG_RATIO_CLIP, HAS_KL_CLIP, HAS_OLD, HAS_WEIGHTS, HAS_REF,
        HAS_IMPORTANCE,
    )  # fmt: skip
    store_terms(row, loss, slope, ratio, clipped, kl, loss_ptr, grad_ptr, ratio_ptr, clipped_ptr, kl_ptr)


@triton.jit(do_not_specialize_on_alignment=PER_TOKEN)
def policy_rows_kernel(
    logits_ptr, out_ptr, targets_ptr, bias_ptr, temperatures_ptr,
    old_ptr, advantages_ptr, weights_ptr, ref_ptr, importance_ptr,
    logprobs_ptr, entropy_ptr, loss_ptr, grad_ptr, ratio_ptr, clipped_ptr, kl_ptr,
    V, W, stride, out_stride, softcap, temperature, clip_low, clip_high, dual_clip, log_ratio_clip,
    kl_coef, max_gap, max_kl, entropy_coef, tau_pos, tau_neg,
    LOSS: tl.constexpr, KL: tl.constexpr, HAS_DUAL_CLIP: tl.constexpr, HAS_LOG_RATIO_CLIP: tl.constexpr,
    HAS_KL_CLIP: tl.constexpr,
    HAS_OLD: tl.constexpr, HAS_WEIGHTS: tl.constexpr, HAS_REF: tl.constexpr, HAS_IMPORTANCE: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_TEMPERATURES: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The terms of a token between the two halves of its row pass."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets_ptr + row)
    if HAS_TEMPERATURES:
        temperature = tl.load(temperatures_ptr + row)
    row_ptr = logits_ptr + row * stride
    logprob, lse, lse_rest, entropy, sum_sq = row_stats(
        row_ptr, bias_ptr, target, V, W, softcap, temperature, HAS_BIAS, HAS_SOFTCAP, BLOCK_V
    )
    loss, slope, grad_entropy, ratio, clipped, kl = token_terms(
        row, logprob, entropy, old_ptr, advantages_ptr, weights_ptr, ref_ptr, importance_ptr,
        clip_low, clip_high, dual_clip, log_ratio_clip, kl_coef, max_gap, max_kl, entropy_coef, tau_pos,
        tau_neg, LOSS, KL, HAS_DUAL_CLIP, HAS_LOG_RATIO_CLIP, HAS_KL_CLIP, HAS_OLD, HAS_WEIGHTS, HAS_REF,
        HAS_IMPORTANCE,
    )  # fmt: skip
    tl.store(logprobs_ptr + row, logprob)
    tl.store(entropy_ptr + row, entropy)
    store_terms(row, loss, slope, ratio, clipped, kl, loss_ptr, grad_ptr, ratio_ptr, clipped_ptr, kl_ptr)
    write_row(
        row_ptr, out_ptr + row * out_stride, bias_ptr, target, V, W, softcap, temperature,
        logprob, lse, lse_rest, entropy, sum_sq, slope, grad_entropy, 0.0, HAS_BIAS, HAS_SOFTCAP, BLOCK_V,
    )  # fmt: skip
