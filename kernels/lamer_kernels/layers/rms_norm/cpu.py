"""The norms on a CPU, float32 inside; memory is in the tensor's dtype, dweight is summed in float32."""

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import LANES, as_numpy, fma, jit, load, store, sum_of_squares, weight_as_numpy


def forward(x: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x, update: [T, H] -> (x + update, or x; its norm; factors [T] float32)."""
    out, factors = torch.empty_like(x), torch.empty(len(x), dtype=torch.float32, device="cpu")
    rest = weight_as_numpy(weight), np.float32(eps), as_numpy(out), factors.numpy()
    if update is None:
        _norm(as_numpy(x), *rest)
        return x, out, factors
    total = torch.empty_like(x)
    _add_norm(as_numpy(x), as_numpy(update), as_numpy(total), *rest)
    return total, out, factors


def backward(
    dout: Tensor, dtotal: Tensor | None, total: Tensor, weight: Tensor, factors: Tensor
) -> tuple[Tensor, Tensor]:
    """dx [T, H], dweight [H] float32."""
    dx = torch.empty_like(total)
    dweight = torch.zeros(weight.shape, dtype=torch.float32, device="cpu")
    arrays = as_numpy(total), weight_as_numpy(weight), factors.numpy(), as_numpy(dout)
    if dtotal is None:
        dtotal = total.new_zeros(total.shape)
    _norm_gradient(*arrays, as_numpy(dtotal), as_numpy(dx), dweight.numpy())
    return dx, dweight


@jit
def _add_norm(a, b, total, weight, eps, out, factors):
    """total = a + b, and its norm as in `_norm`."""
    for n in range(len(a)):
        for i in range(a.shape[1]):
            total[n, i] = store(load(a[n, i]) + load(b[n, i]), a[n, i])
    _norm(total, weight, eps, out, factors)


@jit
def _norm(x, weight, eps, out, factors):
    """out [T, H] = rms_norm(x) * weight; factors [T] = 1 / root mean square."""
    lanes = np.zeros(LANES, np.float32)
    for n in range(len(x)):
        factor = np.float32(1.0) / np.sqrt(sum_of_squares(x[n], lanes) / np.float32(len(weight)) + eps)
        factors[n] = factor
        for i in range(len(weight)):
            out[n, i] = store(load(x[n, i]) * factor * load(weight[i]), x[n, i])


@jit
def _norm_gradient(x, weight, factors, dout, dsum, dx, dweight):
    """dx [T, H] = dsum + gradient of `_norm`; adds to dweight [H] float32."""
    H = len(weight)
    lanes = np.zeros(LANES, np.float32)
    g = np.zeros(H, np.float32)
    for n in range(len(x)):
        for i in range(H):
            scaled = load(dout[n, i]) * factors[n]
            dweight[i] = fma(scaled, load(x[n, i]), dweight[i])
            g[i] = scaled * load(weight[i])
        shrink = dot(g, x[n], lanes) * factors[n] * factors[n] / np.float32(H)
        for i in range(H):
            dx[n, i] = store(load(dsum[n, i]) + fma(-shrink, load(x[n, i]), g[i]), x[n, i])


@jit
def dot(a, b, lanes):
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
