"""The Triton row kernel of the divergences; no torch here. One program per token, two rows by blocks.

s is the student's row of logits, t the teacher's. V vocabulary; W >= V: columns that exist in memory.
"""

import triton
import triton.language as tl

PER_ROW = ["targets_ptr", "weights_ptr", "values_ptr", "logprobs_ptr", "teacher_logprobs_ptr"]


@triton.jit
def load_block(row_ptr, offs, in_memory, temperature):
    return tl.load(row_ptr + offs, mask=in_memory, other=0.0).to(tl.float32) / temperature


@triton.jit
def load_target(row_ptr, target, V, temperature):
    """[1], NaN outside of the vocabulary: nobody has looked at the targets of a GPU."""
    at = target + tl.arange(0, 1)
    is_there = (at >= 0) & (at < V)
    z = tl.load(row_ptr + at, mask=is_there, other=0.0).to(tl.float32) / temperature
    return tl.sum(tl.where(is_there, z, float("nan")), 0)


@triton.jit
def times(p, x):
    """p x, where an entry of probability 0 adds nothing, whatever x is."""
    return tl.where(p == 0, 0.0, p * x)


@triton.jit(do_not_specialize_on_alignment=PER_ROW)
def divergence_rows_kernel(
    s_ptr, t_ptr, out_ptr, targets_ptr, weights_ptr, values_ptr, logprobs_ptr, teacher_logprobs_ptr,
    V, W, s_stride, t_stride, out_stride, temperature, beta,
    KIND: tl.constexpr, HAS_TARGETS: tl.constexpr, HAS_GRADIENT: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Value and log-probs of a row, and its dlogits, which may share s's memory in a type of half its size:
    see ``write_row`` of the log-prob head for why that is safe."""
    row = tl.program_id(0).to(tl.int64)
    s_ptr += row * s_stride
    t_ptr += row * t_stride
    out_ptr += row * out_stride

    s_peak, t_peak = -1e38, -1e38  # finite, so that 0 * (peak - new peak) stays 0
    s_total, t_total = 0.0, 0.0
    gap = 0.0  # sum e^(s - peak) ((s - peak) - (t - peak)), for forward with the roles exchanged
    for start in range(0, V, BLOCK_V):
        offs = start + tl.arange(0, BLOCK_V)
        in_row = offs < V
        s = load_block(s_ptr, offs, offs < W, temperature)
        t = load_block(t_ptr, offs, offs < W, temperature)
        s_new = tl.maximum(s_peak, tl.max(tl.where(in_row, s, -1e38), 0))
        t_new = tl.maximum(t_peak, tl.max(tl.where(in_row, t, -1e38), 0))
        s_shift, t_shift = s_peak - s_new, t_peak - t_new
        s, t = s - s_new, t - t_new
        p = tl.where(in_row, tl.exp(s), 0.0)
        q = tl.where(in_row, tl.exp(t), 0.0)
        if KIND == "forward":
            gap = tl.exp(t_shift) * (gap + (t_shift - s_shift) * t_total) + tl.sum(times(q, t - s), 0)
        if KIND == "reverse":
            gap = tl.exp(s_shift) * (gap + (s_shift - t_shift) * s_total) + tl.sum(times(p, s - t), 0)
        s_total = tl.exp(s_shift) * s_total + tl.sum(p, 0)
        t_total = tl.exp(t_shift) * t_total + tl.sum(q, 0)
        s_peak, t_peak = s_new, t_new
    s_log, t_log = tl.log(s_total), tl.log(t_total)

    pull = 0.0  # mean under the student of what the gradient is measured against
    if KIND == "forward":
        value = gap / t_total + s_log - t_log
    if KIND == "reverse":
        value = gap / s_total + t_log - s_log
        pull = value
    if KIND == "jensen_shannon":
        of_teacher = 0.0
        for start in range(0, V, BLOCK_V):
            offs = start + tl.arange(0, BLOCK_V)
            s = load_block(s_ptr, offs, offs < W, temperature) - s_peak - s_log
            t = load_block(t_ptr, offs, offs < W, temperature) - t_peak - t_log
            p = tl.where(offs < V, tl.exp(s), 0.0)
            q = tl.where(offs < V, tl.exp(t), 0.0)
            m = tl.log((1.0 - beta) * p + beta * q)
            pull += tl.sum(times(p, s - m), 0)
            of_teacher += tl.sum(times(q, t - m), 0)
        value = (1.0 - beta) * pull + beta * of_teacher

    weight = tl.load(weights_ptr + row)
    tl.store(values_ptr + row, tl.where(weight == 0, 0.0, value))
    if HAS_TARGETS:
        target = tl.load(targets_ptr + row)
        tl.store(logprobs_ptr + row, load_target(s_ptr, target, V, temperature) - s_peak - s_log)
        tl.store(teacher_logprobs_ptr + row, load_target(t_ptr, target, V, temperature) - t_peak - t_log)
    if HAS_GRADIENT:
        tl.debug_barrier()  # the target's logit is read before a block is written over it
        for start in range(0, V, BLOCK_V):
            offs = start + tl.arange(0, BLOCK_V)
            s = load_block(s_ptr, offs, offs < W, temperature) - s_peak - s_log
            t = load_block(t_ptr, offs, offs < W, temperature) - t_peak - t_log
            p = tl.exp(s)
            if KIND == "forward":
                slope = p - tl.exp(t)
            if KIND == "reverse":
                slope = times(p, s - t - pull)
            if KIND == "jensen_shannon":
                m = tl.log((1.0 - beta) * p + beta * tl.exp(t))
                slope = (1.0 - beta) * times(p, s - m - pull)
            slope = tl.where(weight == 0, 0.0, slope * (weight / temperature))  # also where a row holds NaN
            tl.debug_barrier()
            tl.store(out_ptr + offs, slope.to(out_ptr.dtype.element_ty), mask=offs < W)
