"""Triton row kernels; no torch here. One program per token row; V vocabulary, read in blocks of BLOCK_V.

``row_stats`` and ``write_row`` are the two halves; linear_policy_loss puts its loss between them
(``policy/gpu.py``).
"""

import triton
import triton.language as tl


@triton.jit
def load_row_block(
    row_ptr, bias_ptr, offs, in_row, softcap, temperature, HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr
):
    """Logits with bias, softcap and temperature, and the slope of the softcap (1 without one)."""
    z = tl.load(row_ptr + offs, mask=in_row, other=0.0).to(tl.float32)
    slope = tl.full(z.shape, 1.0, tl.float32)
    if HAS_BIAS:
        z += tl.load(bias_ptr + offs, mask=in_row, other=0.0).to(tl.float32)
    if HAS_SOFTCAP:
        tanh = 1.0 - 2.0 / (tl.exp(2.0 * z / softcap) + 1.0)
        slope = 1.0 - tanh * tanh
        z = softcap * tanh
    return z / temperature, slope


@triton.jit
def row_stats(
    row_ptr, bias_ptr, target, V, softcap, temperature,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """log p of the target, log of the normaliser, entropy, sum p^2: one online pass."""
    peak = -1e38  # finite, so that 0 * (peak - new peak) stays 0
    total = 0.0
    weighted = 0.0  # sum e^(z - peak) (z - peak)
    squares = 0.0
    for start in range(0, V, BLOCK_V):
        offs = start + tl.arange(0, BLOCK_V)
        in_row = offs < V
        z, _ = load_row_block(row_ptr, bias_ptr, offs, in_row, softcap, temperature, HAS_BIAS, HAS_SOFTCAP)
        new_peak = tl.maximum(peak, tl.max(tl.where(in_row, z, -1e38), 0))
        shrink = tl.exp(peak - new_peak)
        z = tl.where(in_row, z - new_peak, -1e4)  # exp(-1e4) is 0, and 0 * -1e4 too
        e = tl.exp(z)
        weighted = shrink * (weighted + (peak - new_peak) * total) + tl.sum(e * z, 0)
        total = shrink * total + tl.sum(e, 0)
        squares = shrink * shrink * squares + tl.sum(e * e, 0)
        peak = new_peak
    one = tl.arange(0, 1)
    z_target, _ = load_row_block(
        row_ptr, bias_ptr, target + one, one == 0, softcap, temperature, HAS_BIAS, HAS_SOFTCAP
    )
    log_total = tl.log(total)
    logprob = tl.sum(z_target, 0) - peak - log_total
    return logprob, peak + log_total, log_total - weighted / total, squares / (total * total)


@triton.jit
def write_row(
    row_ptr, out_ptr, bias_ptr, target, V, softcap, temperature, lse, grad_target, prob, log_prob, square,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """out_j = (p_j (prob + log_prob log p_j + square p_j) + grad_target [j = target]) * slope_j /
    temperature.

    out may share the row's memory in a type of half its size: block k is written to bytes that belong to
    blocks <= k, so the barrier keeps a fast warp from writing over what a slow one has yet to read; later
    blocks are not touched.
    """
    for start in range(0, V, BLOCK_V):
        offs = start + tl.arange(0, BLOCK_V)
        in_row = offs < V
        z, slope = load_row_block(
            row_ptr, bias_ptr, offs, in_row, softcap, temperature, HAS_BIAS, HAS_SOFTCAP
        )
        log_p = z - lse
        p = tl.exp(log_p)
        dz = p * (prob + log_prob * log_p + square * p)
        dz = (dz + tl.where(offs == target, grad_target, 0.0)) * slope / temperature
        tl.debug_barrier()
        tl.store(out_ptr + offs, dz.to(out_ptr.dtype.element_ty), mask=in_row)


@triton.jit
def row_stats_kernel(
    logits_ptr, targets_ptr, bias_ptr, temperatures_ptr, logprobs_ptr, lse_ptr, entropy_ptr, sum_sq_ptr,
    V, stride, softcap, temperature,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_TEMPERATURES: tl.constexpr,
    HAS_ENTROPY: tl.constexpr, HAS_SUM_SQ: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets_ptr + row)
    if HAS_TEMPERATURES:
        temperature = tl.load(temperatures_ptr + row)
    logprob, lse, entropy, sum_sq = row_stats(
        logits_ptr + row * stride, bias_ptr, target, V, softcap, temperature, HAS_BIAS, HAS_SOFTCAP, BLOCK_V
    )
    tl.store(logprobs_ptr + row, logprob)
    tl.store(lse_ptr + row, lse)
    if HAS_ENTROPY:
        tl.store(entropy_ptr + row, entropy)
    if HAS_SUM_SQ:
        tl.store(sum_sq_ptr + row, sum_sq)


@triton.jit
def write_dlogits_kernel(
    logits_ptr, out_ptr, targets_ptr, lse_ptr, target_grad_ptr, prob_ptr, log_prob_ptr, square_ptr,
    bias_ptr, temperatures_ptr, V, stride, out_stride, softcap, temperature,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_TEMPERATURES: tl.constexpr,
    HAS_LOG_PROB: tl.constexpr, HAS_SQUARE: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    if HAS_TEMPERATURES:
        temperature = tl.load(temperatures_ptr + row)
    log_prob = 0.0
    square = 0.0
    if HAS_LOG_PROB:
        log_prob = tl.load(log_prob_ptr + row)
    if HAS_SQUARE:
        square = tl.load(square_ptr + row)
    write_row(
        logits_ptr + row * stride, out_ptr + row * out_stride, bias_ptr, tl.load(targets_ptr + row), V,
        softcap, temperature, tl.load(lse_ptr + row), tl.load(target_grad_ptr + row), tl.load(prob_ptr + row),
        log_prob, square, HAS_BIAS, HAS_SOFTCAP, BLOCK_V,
    )  # fmt: skip
