"""The gated activation on a CPU, float32 inside."""

import numpy as np
import torch
from torch import Tensor

from ..._core.numba_math import as_numpy, exp, jit, load, store


def forward(gate_up: Tensor) -> Tensor:
    out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    _gate(as_numpy(gate_up), as_numpy(out))
    return out


def backward(dout: Tensor, gate_up: Tensor) -> Tensor:
    dgate_up = torch.empty_like(gate_up)
    _gate_gradient(as_numpy(gate_up), as_numpy(dout), as_numpy(dgate_up))
    return dgate_up


@jit
def _gate(gate_up, out):
    """out [T, F] = silu(gate_up[:, :F]) * gate_up[:, F:]."""
    F = out.shape[1]
    for n in range(len(out)):
        gates, ups, y = gate_up[n, :F], gate_up[n, F:], out[n]  # rows, else the loop is not vectorised
        for i in range(F):
            x = load(gates[i])
            y[i] = store(x / (np.float32(1.0) + exp(-x)) * load(ups[i]), y[i])


@jit
def _gate_gradient(gate_up, dout, dgate_up):
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
