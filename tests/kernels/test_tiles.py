"""Matrix products and reductions in registers, for numba kernels."""

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from lamer_kernels._core.numba_math import as_numpy
from lamer_kernels._core.numba_tiles import largest, multiply, total


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("M", [8, 24])
@pytest.mark.parametrize("N", [16, 32, 48, 80])
@pytest.mark.parametrize("K", [0, 1, 7, 33])
@pytest.mark.parametrize("transposed", [False, True])
def test_multiply(M, N, K, transposed):
    a, b, before = draw(M, K), draw(K, N), draw(M, N + 3)
    flat, strides = (a.T.copy().ravel(), (1, M)) if transposed else (a.ravel(), (K, 1))
    for add in (False, True):
        c = before.copy()
        multiply(flat, *strides, b.ravel(), N, c.reshape(-1), N + 3, M, N, K, add)
        wanted = a.astype(np.float64) @ b + (before[:, :N] if add else 0)
        np.testing.assert_allclose(c[:, :N], wanted, rtol=0, atol=1e-5)
        assert np.array_equal(c[:, N:], before[:, N:])


@pytest.mark.parametrize("N", [32, 48])
def test_multiply_with_a_bfloat16(N):
    """Exactly as with the same numbers in float32, whatever other rows there are."""
    a, b = draw(16, 33), torch.from_numpy(draw(33, N)).bfloat16()
    c, again, few = (np.empty((M, N), np.float32) for M in (16, 16, 8))
    for halves, out, M in ((as_numpy(b), c, 16), (b.float().numpy(), again, 16), (as_numpy(b), few, 8)):
        multiply(a.ravel(), 33, 1, halves.ravel(), N, out.reshape(-1), N, M, N, 33, False)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.double().numpy(), rtol=0, atol=1e-5)
    assert np.array_equal(c, again) and np.array_equal(c[:8], few)


@pytest.mark.parametrize("n", [16, 48, 1024])
def test_reductions(n):
    from lamer_kernels._core.numba_math import jit

    @jit
    def both(x):
        return largest(x, len(x)), total(x, len(x))

    x = draw(n)
    top, summed = both(x)
    assert top == x.max()
    assert abs(summed - x.sum(dtype=np.float64)) < 1e-4
