"""cached_blocks: contract and checks; CPU only, where each call of an op costs more than its work."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._core.checks import check_tensor
from ..._core.dispatch import HAS_NUMBA
from .._choose import CPU_DTYPES

Linear = tuple[Tensor, Tensor | None]  # weight [out, in], bias [out]
BlockWeights = tuple[Any, ...]  # numpy arrays, as the kernel takes them


@torch.no_grad()
def block_weights(
    first_norm: Tensor,
    qkv: Linear,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    out: Linear,
    second_norm: Tensor,
    gate_up: Linear,
    down: Linear,
) -> BlockWeights | None:
    """Copies of one layer's weights for `cached_blocks`.

    Args:
        first_norm, second_norm: [H]; q_norm, k_norm: [D], or None for no norms of heads.
        qkv, gate_up: their parts side by side.

    Returns:
        None where `cached_blocks` does not take them: not on a CPU, without numba, neither float32 nor
        bfloat16, or of sizes that do not fill vectors of 16 numbers.
    """
    linears = (qkv, out, gate_up, down)
    weight = qkv[0]
    fits = HAS_NUMBA and weight.device.type == "cpu" and weight.dtype in CPU_DTYPES
    if not fits or any(size % 16 for w, _ in linears for size in w.shape):
        return None
    from . import cpu

    return cpu.packed(first_norm, qkv, q_norm, k_norm, out, second_norm, gate_up, down)


@torch.no_grad()
def cached_blocks(
    x: Tensor,
    layers: Sequence[tuple[BlockWeights, Tensor, Tensor, Tensor, Tensor]],
    slots: Tensor,
    positions: Tensor,
    norm: Tensor,
    *,
    num_heads: int,
    num_kv_heads: int,
    scale: float,
    eps: float,
) -> Tensor:
    """All layers of a pre-norm decoder over a cache, without gradients: what `add_rms_norm`, linear layers,
    `rotary`, `cached_attention` and `swiglu` do one after another, with one call a layer.

    For few tokens, whose calls take longer than their numbers. Rounded to the dtype where the ops round;
    products are summed in float32 in an order of their own, the same whatever other tokens there are.

    Args:
        x: [N, H] contiguous, float32 or bfloat16, embedded tokens; changed in place.
        layers: of each its `block_weights`, cosines and sines as `rotary` takes them, and keys and values as
            `new_slots` makes them, which are changed in place.
        slots, positions: [N] int64, of each token. Not checked.
        norm: [H], the weight of the last norm.

    Returns:
        [N, H], the last hidden states.

    Raises:
        ValueError: a shape or dtype that cannot be, or an x that requires a gradient; the message names it.
    """
    check_tensor("x", x, shape=(None, None), dtypes=CPU_DTYPES)
    N = len(x)
    for name, index in (("slots", slots), ("positions", positions)):
        check_tensor(name, index, shape=(N,), dtypes=(torch.int64,), like=x)
    if not x.is_contiguous():
        raise ValueError("x must be contiguous: it is written in place")
    if x.requires_grad:
        raise ValueError("x requires a gradient, which cached_blocks does not give: call it under no_grad")
    check_tensor("norm", norm, shape=x.shape[1:], dtypes=(x.dtype,), like=x)
    from . import cpu

    return cpu.blocks(x, layers, slots, positions, norm, num_heads, num_kv_heads, scale, eps)
