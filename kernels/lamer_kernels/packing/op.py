"""pack: contract, checks and registration."""

import torch
from torch import Tensor

from .._core.arrays import accepts_numpy
from .._core.checks import INT_DTYPES, check_tensor
from .._core.dispatch import Backend, resolve_backend
from .._core.namespace import qualified
from .._core.numbers import check_integer
from .reference import pack_ref


@accepts_numpy
def pack(lengths: Tensor, max_tokens: int, *, backend: Backend = "auto") -> Tensor:
    """Puts sequences into few bins, each with at most ``max_tokens`` tokens: best-fit decreasing.

    Deterministic: the longest comes first (the earlier one among equals), and each goes into the fullest bin
    that has room (the one touched last among equally full ones). Runs on the host; a CUDA tensor is copied
    there and back.

    Args:
        lengths: [S] integer, 0 <= length <= max_tokens.
        max_tokens: capacity of a bin, >= 1.

    Returns:
        [S] int64: the bin of each sequence; bins are numbered 0, 1, ... as they are opened. Every backend
        makes the same plan.

    Raises:
        ValueError: a length is negative or exceeds ``max_tokens``; the message names both.
    """
    check_tensor("lengths", lengths, shape=(None,), dtypes=INT_DTYPES)
    max_tokens = check_integer("max_tokens", max_tokens, 1)
    if backend == "triton":
        raise ValueError("pack plans on the host: backend must be 'auto', 'cpu' or 'reference', got 'triton'")
    out: Tensor = pack_op(
        lengths,
        max_tokens,
        resolve_backend(backend, torch.device("cpu"), cpu_needs_numba=True, rows=len(lengths)),
    )
    return out


@torch.library.custom_op(qualified("pack"), mutates_args=())
def pack_op(lengths: Tensor, max_tokens: int, backend: str) -> Tensor:
    host = lengths.to("cpu", torch.int64).contiguous()
    if len(host):
        low, high = (int(x) for x in host.aminmax())
        if low < 0:
            raise ValueError(f"lengths must not be negative, got {low} at {int(host.argmin())}")
        if high > max_tokens:
            at = int(host.argmax())
            raise ValueError(f"lengths[{at}] = {high} exceeds max_tokens = {max_tokens}")
    if backend == "cpu":
        from . import cpu

        if max_tokens <= cpu.MAX_ROOM:
            out = torch.empty_like(host)
            cpu.pack(host.numpy(), max_tokens, out.numpy())
            return out.to(lengths.device)
    return torch.tensor(pack_ref(host.tolist(), max_tokens), dtype=torch.int64, device=lengths.device)


@pack_op.register_fake
def _(lengths: Tensor, max_tokens: int, backend: str) -> Tensor:
    return lengths.new_empty(lengths.shape, dtype=torch.int64)
