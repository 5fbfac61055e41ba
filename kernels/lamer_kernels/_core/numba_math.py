# mypy: disable-error-code="no-untyped-call,no-untyped-def,misc,type-arg,untyped-decorator"
"""bfloat16 and exp for numba kernels. A bfloat16 is the upper half of a float32, here in an int16.

Nothing here is fastmath: a result must not depend on how a compiler happened to vectorise it.
"""

import numba
import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from .jit import jit as jit

LANES = 16  # partial sums of a long sum, one vector register


def as_numpy(x: torch.Tensor) -> NDArray:
    """The tensor's memory; a bfloat16 as int16."""
    array: NDArray = (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()
    return array


def weight_as_numpy(x: torch.Tensor) -> NDArray:
    """Of a copy: exported memory cannot be freed, which FSDP2 does with a parameter after each use."""
    return as_numpy(x.clone())


@intrinsic
def float_of_bits(typing_context, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def bits_of_float(typing_context, x):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@numba.njit(inline="always")
def exp(x):
    """exp, clamped to |x| <= 87; relative error below 1e-6 for |x| < 9; NaN stays NaN."""
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    x = np.float32(87.0) if x > np.float32(87.0) else x
    t = x * np.float32(1.4426950408889634)
    whole = np.floor(t + np.float32(0.5))
    f = t - whole
    p = fma(np.float32(1.5403530e-4), f, np.float32(1.3333558e-3))
    p = fma(p, f, np.float32(9.6181291e-3))
    p = fma(p, f, np.float32(5.5504109e-2))
    p = fma(p, f, np.float32(2.4022651e-1))
    p = fma(p, f, np.float32(6.9314718e-1))
    p = fma(p, f, np.float32(1.0))
    return p * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


def load(x):
    """A stored number as float32."""


def store(x, like):
    """A float32 as stored, in the type of `like`; to the nearest, ties to even."""


@overload(load, inline="always")
def _load(x):
    if isinstance(x, types.Integer):
        return lambda x: float_of_bits(np.int32(x) << np.int32(16))
    return lambda x: x


@overload(store, inline="always")
def _store(x, like):
    if not isinstance(like, types.Integer):
        return lambda x, like: x

    def rounded(x, like):
        bits = bits_of_float(x)
        return np.int16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))

    return rounded


@jit
def sum_of_squares(x, lanes):
    """Of a stored vector; partial sums in `lanes` [LANES], then these in order."""
    lanes[:] = 0
    whole = len(x) // LANES * LANES
    for i in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] = fma(load(x[i + j]), load(x[i + j]), lanes[j])
    total = np.float32(0.0)
    for j in range(LANES):
        total += lanes[j]
    for i in range(whole, len(x)):
        total = fma(load(x[i]), load(x[i]), total)
    return total
