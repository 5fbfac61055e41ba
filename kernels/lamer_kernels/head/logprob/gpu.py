"""Triton row kernels; no torch here. One program per token row; V vocabulary, read in blocks of BLOCK_V.

W >= V: columns that exist in memory. A mask that cuts within 16 bytes would make every load one of 4 bytes.

``row_stats`` and ``write_row`` are the two halves; ``policy/gpu.py`` puts a loss between them.
"""

import triton
import triton.language as tl

# A chunk of tokens starts anywhere: values per row have no alignment that would be worth a compilation.
PER_ROW = [
    "targets_ptr", "temperatures_ptr", "logprobs_ptr", "lse_ptr", "lse_rest_ptr", "entropy_ptr", "sum_sq_ptr",
    "grad_logprobs_ptr", "grad_entropy_ptr", "grad_sum_sq_ptr",
]  # fmt: skip


@triton.jit
def exp_less_tangent(x):
    """(e^x - 1 - x, e^x - 1). Near 0 a difference loses its digits; the series keeps them, and is >= 0."""
    series = 1.0 / 479001600
    factorial = 479001600.0
    for n in tl.static_range(12, 2, -1):
        factorial = factorial / n
        series = series * x + 1.0 / factorial
    near = tl.abs(x) < 1.0
    exp = tl.exp(x)
    rest = tl.where(near, x * x * series, exp - 1.0 - x)
    return rest, tl.where(near, rest + x, exp - 1.0)


@triton.jit
def load_row_block(
    row_ptr, bias_ptr, offs, in_row, in_memory, softcap, temperature,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
):  # fmt: skip
    """Logits with bias, softcap and temperature, and the slope of the softcap (1 without one)."""
    z = tl.load(row_ptr + offs, mask=in_memory, other=0.0).to(tl.float32)
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
    row_ptr, bias_ptr, target, V, W, softcap, temperature,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """log p of the target, lse and what rounding it left out, entropy, sum p^2: one online pass."""
    peak = -1e38  # finite, so that 0 * (peak - new peak) stays 0
    total = 0.0
    weighted = 0.0  # sum e^(z - peak) (z - peak)
    squares = 0.0
    for start in range(0, V, BLOCK_V):
        offs = start + tl.arange(0, BLOCK_V)
        in_row = offs < V
        z, _ = load_row_block(
            row_ptr, bias_ptr, offs, in_row, offs < W, softcap, temperature, HAS_BIAS, HAS_SOFTCAP
        )
        new_peak = tl.maximum(peak, tl.max(tl.where(in_row, z, -1e38), 0))
        shrink = tl.exp(peak - new_peak)
        # exp(-1e4) is 0, and 0 * -1e4 too: also for an entry that a bias of -inf removes. NaN stays NaN
        z = tl.where(in_row & ~(z - new_peak < -1e4), z - new_peak, -1e4)
        e = tl.exp(z)
        weighted = shrink * (weighted + (peak - new_peak) * total) + tl.sum(e * z, 0)
        total = shrink * total + tl.sum(e, 0)
        squares = shrink * shrink * squares + tl.sum(e * e, 0)
        peak = new_peak
    in_vocab = (target >= 0) & (target < V)  # else NaN: nobody has looked at the targets of a GPU
    # a mask of `at`, not in_vocab: Triton 3.9's interpreter loads by no scalar's condition
    at = target + tl.arange(0, 1)
    is_there = (at >= 0) & (at < V)
    z_target, _ = load_row_block(
        row_ptr, bias_ptr, at, is_there, is_there, softcap, temperature, HAS_BIAS, HAS_SOFTCAP
    )
    log_total = tl.log(total)
    logprob = tl.where(in_vocab, tl.sum(z_target, 0) - peak - log_total, float("nan"))
    lse = peak + log_total
    of_total = lse - peak
    lse_rest = (peak - (lse - of_total)) + (log_total - of_total)
    return logprob, lse, lse_rest, log_total - weighted / total, squares / (total * total)


@triton.jit
def write_row(
    row_ptr, out_ptr, bias_ptr, target, V, W, softcap, temperature, logprob, lse, lse_rest, entropy, sum_sq,
    grad_logprob, grad_entropy, grad_sum_sq,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """The row of ``cpu.RowGrads``, times the slope of the softcap, over the temperature.

    out may share the row's memory in a type of half its size: block k is written to bytes that belong to
    blocks <= k, so the barrier keeps a fast warp from writing over what a slow one has yet to read; later
    blocks are not touched.
    """
    live = (grad_logprob != 0) | (grad_entropy != 0) | (grad_sum_sq != 0)
    center = entropy - lse_rest
    _, minus_others = exp_less_tangent(logprob)  # 1 - p of the target keeps its digits where p is nearly 1
    for start in range(0, V, BLOCK_V):
        offs = start + tl.arange(0, BLOCK_V)
        in_row = offs < V
        z, slope = load_row_block(
            row_ptr, bias_ptr, offs, in_row, offs < W, softcap, temperature, HAS_BIAS, HAS_SOFTCAP
        )
        u = z - lse
        u = tl.where(u < -1e4, -1e4, u)
        p = tl.exp(u - lse_rest)
        dz = p * (2.0 * grad_sum_sq * (p - sum_sq) - grad_entropy * (u + center))
        dz -= grad_logprob * tl.where(offs == target, minus_others, p)
        dz = dz * slope / temperature
        dz = tl.where(live, dz, 0.0)  # also where the row holds NaN
        tl.debug_barrier()
        tl.store(out_ptr + offs, dz.to(out_ptr.dtype.element_ty), mask=offs < W)


@triton.jit(do_not_specialize_on_alignment=PER_ROW)
def row_stats_kernel(
    logits_ptr, targets_ptr, bias_ptr, temperatures_ptr,
    logprobs_ptr, lse_ptr, lse_rest_ptr, entropy_ptr, sum_sq_ptr, V, W, stride, softcap, temperature,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_TEMPERATURES: tl.constexpr,
    HAS_ENTROPY: tl.constexpr, HAS_SUM_SQ: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets_ptr + row)
    if HAS_TEMPERATURES:
        temperature = tl.load(temperatures_ptr + row)
    logprob, lse, lse_rest, entropy, sum_sq = row_stats(
        logits_ptr + row * stride,
        bias_ptr,
        target,
        V,
        W,
        softcap,
        temperature,
        HAS_BIAS,
        HAS_SOFTCAP,
        BLOCK_V,
    )
    tl.store(logprobs_ptr + row, logprob)
    tl.store(lse_ptr + row, lse)
    tl.store(lse_rest_ptr + row, lse_rest)
    if HAS_ENTROPY:
        tl.store(entropy_ptr + row, entropy)
    if HAS_SUM_SQ:
        tl.store(sum_sq_ptr + row, sum_sq)


@triton.jit(do_not_specialize_on_alignment=PER_ROW)
def write_dlogits_kernel(
    logits_ptr, out_ptr, targets_ptr, logprobs_ptr, lse_ptr, lse_rest_ptr, entropy_ptr, sum_sq_ptr,
    grad_logprobs_ptr, grad_entropy_ptr, grad_sum_sq_ptr, bias_ptr, temperatures_ptr,
    V, W, stride, out_stride, softcap, temperature,
    HAS_BIAS: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_TEMPERATURES: tl.constexpr,
    HAS_ENTROPY: tl.constexpr, HAS_SUM_SQ: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    if HAS_TEMPERATURES:
        temperature = tl.load(temperatures_ptr + row)
    entropy, grad_entropy = 0.0, 0.0
    sum_sq, grad_sum_sq = 0.0, 0.0
    if HAS_ENTROPY:
        entropy, grad_entropy = tl.load(entropy_ptr + row), tl.load(grad_entropy_ptr + row)
    if HAS_SUM_SQ:
        sum_sq, grad_sum_sq = tl.load(sum_sq_ptr + row), tl.load(grad_sum_sq_ptr + row)
    target, logprob = tl.load(targets_ptr + row), tl.load(logprobs_ptr + row)
    lse, lse_rest = tl.load(lse_ptr + row), tl.load(lse_rest_ptr + row)
    write_row(
        logits_ptr + row * stride, out_ptr + row * out_stride, bias_ptr, target, V, W, softcap, temperature,
        logprob, lse, lse_rest, entropy, sum_sq, tl.load(grad_logprobs_ptr + row), grad_entropy, grad_sum_sq,
        HAS_BIAS, HAS_SOFTCAP, BLOCK_V,
    )  # fmt: skip
