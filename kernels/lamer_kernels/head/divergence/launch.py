"""The row pass of the divergences by Triton: one launch for a chunk of tokens."""

from torch import Tensor

from ..._core.launch import launch
from ..logprob.launch import blocks, overlay, width
from .gpu import divergence_rows_kernel
from .rows import Rows


def divergence_rows(s: Tensor, t: Tensor, rows: Rows) -> Tensor | None:
    """Fills ``rows.outputs`` from logits s and t [C, V] float32; dlogits [C, V] of ``rows.dtype`` over the
    memory of s, or None."""
    targets, weights, outputs, kind, beta, temperature, dtype = rows
    out = None if dtype is None else overlay(s, dtype)
    used = s if out is None else out
    launch(
        divergence_rows_kernel, len(s), s, t, used, targets, weights, *outputs,
        s.shape[1], width(s, t, used), s.stride(0), t.stride(0), used.stride(0), temperature, beta,
        KIND=kind, HAS_TARGETS=targets is not None, HAS_GRADIENT=out is not None, **blocks(s.shape[1]),
    )  # fmt: skip
    return out
