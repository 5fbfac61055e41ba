"""The gradient of a row look-up on a CPU: rows are added in their order, in float32."""

import torch
from torch import Tensor

from ..._core.numba_math import as_numpy, jit, load


def backward(dout: Tensor, ids: Tensor, num_rows: int) -> Tensor:
    """dout [T, H] -> dweight [V, H] in its dtype, rounded once."""
    total = torch.zeros(num_rows, dout.shape[1], dtype=torch.float32, device="cpu")
    _add_rows(ids.numpy(), as_numpy(dout), total.numpy())
    return total.to(dout.dtype)


@jit
def _add_rows(ids, rows, out):
    """out [V, H] float32: rows [T, H] are added at ids."""
    for n in range(len(ids)):
        for i in range(out.shape[1]):
            out[ids[n], i] += load(rows[n, i])
