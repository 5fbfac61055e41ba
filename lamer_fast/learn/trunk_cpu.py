# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc,untyped-decorator"
"""What lies between the matrix products of a decoder's layer on a CPU, forward and backward in one numba pass
each. Arithmetic is float32, memory is in the model's dtype; gradients of weights are summed in float32.

Axis letters: T packed tokens, H hidden, A heads (query heads, then key heads), D head size, F MLP size.
"""

import numpy as np

from lamer_kernels._core.numba_math import LANES, exp, fma, jit, load, store, sum_of_squares


@jit
def add(a, b, out):
    for n in range(len(a)):
        for i in range(a.shape[1]):
            out[n, i] = store(load(a[n, i]) + load(b[n, i]), a[n, i])


@jit
def norm(x, weight, eps, out, factors):
    """out [T, H] = rms_norm(x) * weight; factors [T] = 1 / root mean square."""
    lanes = np.zeros(LANES, np.float32)
    for n in range(len(x)):
        factor = np.float32(1.0) / np.sqrt(sum_of_squares(x[n], lanes) / np.float32(len(weight)) + eps)
        factors[n] = factor
        for i in range(len(weight)):
            out[n, i] = store(load(x[n, i]) * factor * load(weight[i]), x[n, i])


@jit
def norm_gradient(x, weight, factors, dout, dsum, dx, dweight):
    """dx [T, H] = dsum + gradient of `norm`; adds to dweight [H] float32."""
    H = len(weight)
    lanes = np.zeros(LANES, np.float32)
    g = np.zeros(H, np.float32)
    for n in range(len(x)):
        for i in range(H):
            scaled = load(dout[n, i]) * factors[n]
            dweight[i] = fma(scaled, load(x[n, i]), dweight[i])
            g[i] = scaled * load(weight[i])
        shrink = _dot(g, x[n], lanes) * factors[n] * factors[n] / np.float32(H)
        for i in range(H):
            dx[n, i] = store(load(dsum[n, i]) + fma(-shrink, load(x[n, i]), g[i]), x[n, i])


@jit
def rotate(qkv, weight, cos, sin, positions, eps, out, factors):
    """out [T, A, D] = rotary(rms_norm(qkv [T, A.., D]) * weight); weight [A, D], or [0, D] for no norm."""
    A, D = out.shape[1:]
    half = D // 2
    lanes = np.zeros(LANES, np.float32)
    y = np.zeros(D, np.float32)
    for n in range(len(out)):
        c, s = cos[positions[n]], sin[positions[n]]
        for a in range(A):
            x = qkv[n, a]
            if len(weight) == 0:
                for d in range(D):
                    y[d] = load(x[d])
            else:
                factor = np.float32(1.0) / np.sqrt(sum_of_squares(x, lanes) / np.float32(D) + eps)
                factors[n, a] = factor
                for d in range(D):
                    y[d] = load(x[d]) * factor * load(weight[a, d])
            for d in range(half):
                out[n, a, d] = store(y[d] * c[d] - y[d + half] * s[d], x[d])
            for d in range(half):
                out[n, a, d + half] = store(y[d + half] * c[d] + y[d] * s[d], x[d])


@jit
def rotate_gradient(qkv, weight, cos, sin, positions, factors, dout, dqkv, dweight):
    """dqkv [T, A.., D] at its first heads = gradient of `rotate`; adds to dweight [A, D] float32.

    dout: [T, A, D].
    """
    A, D = dout.shape[1:]
    half = D // 2
    lanes = np.zeros(LANES, np.float32)
    g = np.zeros(D, np.float32)
    for n in range(len(dout)):
        c, s = cos[positions[n]], sin[positions[n]]
        for a in range(A):
            x, dy, dx = qkv[n, a], dout[n, a], dqkv[n, a]
            for d in range(half):
                g[d] = load(dy[d]) * c[d] + load(dy[d + half]) * s[d]
            for d in range(half):
                g[d + half] = load(dy[d + half]) * c[d] - load(dy[d]) * s[d]
            if len(weight) == 0:
                for d in range(D):
                    dx[d] = store(g[d], x[d])
                continue
            factor = factors[n, a]
            for d in range(D):
                scaled = g[d] * factor
                dweight[a, d] = fma(scaled, load(x[d]), dweight[a, d])
                g[d] = scaled * load(weight[a, d])
            shrink = _dot(g, x, lanes) * factor * factor / np.float32(D)
            for d in range(D):
                dx[d] = store(fma(-shrink, load(x[d]), g[d]), x[d])


@jit
def gate(gate_up, out):
    """out [T, F] = silu(gate_up[:, :F]) * gate_up[:, F:]."""
    F = out.shape[1]
    for n in range(len(out)):
        gates, ups, y = gate_up[n, :F], gate_up[n, F:], out[n]  # rows, else the loop is not vectorised
        for i in range(F):
            x = load(gates[i])
            y[i] = store(x / (np.float32(1.0) + exp(-x)) * load(ups[i]), y[i])


@jit
def gate_gradient(gate_up, dout, dgate_up):
    F = dout.shape[1]
    for n in range(len(dout)):
        gates, ups, dy = gate_up[n, :F], gate_up[n, F:], dout[n]
        dgates, dups = dgate_up[n, :F], dgate_up[n, F:]
        for i in range(F):
            x, g = load(gates[i]), load(dy[i])
            p = np.float32(1.0) / (np.float32(1.0) + exp(-x))
            slope = p * (np.float32(1.0) + x * (np.float32(1.0) - p))
            dgates[i] = store(g * load(ups[i]) * slope, dgates[i])
            dups[i] = store(g * x * p, dups[i])


@jit
def add_rows(ids, rows, out):
    """out [V, H] float32: rows [T, H] are added at ids."""
    for n in range(len(ids)):
        for i in range(out.shape[1]):
            out[ids[n], i] += load(rows[n, i])


@jit
def _dot(a, b, lanes):
    """Of a float32 and a stored vector; partial sums in `lanes` [LANES], then these in order."""
    lanes[:] = 0
    whole = len(a) // LANES * LANES
    for i in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] = fma(a[i + j], load(b[i + j]), lanes[j])
    total = np.float32(0.0)
    for j in range(LANES):
        total += lanes[j]
    for i in range(whole, len(a)):
        total = fma(a[i], load(b[i]), total)
    return total
