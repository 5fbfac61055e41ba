"""The row pass of the divergences by Triton: one launch for a chunk of tokens."""

import torch
from torch import Tensor

from ..._core.launch import launch
from ..logprob.launch import blocks, overlay, width
from .gpu import divergence_rows_kernel


def divergence_rows(
    s: Tensor,
    t: Tensor,
    targets: Tensor | None,
    weights: Tensor,
    outputs: tuple[Tensor, Tensor, Tensor],
    kind: str,
    beta: float,
    temperature: float,
    dtype: torch.dtype | None,
) -> Tensor | None:
    """Fills ``outputs`` (values, logprobs, teacher_logprobs [C]) from logits s and t [C, V] float32; gives
    dlogits [C, V] of ``dtype`` over the memory of s, or None."""
    out = None if dtype is None else overlay(s, dtype)
    used = s if out is None else out
    launch(
        divergence_rows_kernel, len(s), s, t, used, targets, weights, *outputs,
        s.shape[1], width(s, t, used), s.stride(0), t.stride(0), used.stride(0), temperature, beta,
        KIND=kind, HAS_TARGETS=targets is not None, HAS_GRADIENT=out is not None, **blocks(s.shape[1]),
    )  # fmt: skip
    return out
