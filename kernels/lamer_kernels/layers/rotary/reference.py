"""Reference: the definition of rotary positions with optional norms of queries and keys. Any float dtype."""

import torch
from torch import Tensor

from ..rms_norm.reference import rms_norm_ref


def rotary_ref(
    qkv: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    *,
    num_kv_heads: int,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    exact = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
    num_heads = qkv.shape[1] - 2 * num_kv_heads
    q, k, v = torch.split(exact, [num_heads, num_kv_heads, num_kv_heads], dim=1)
    if q_norm is not None and k_norm is not None:
        q, k = (rms_norm_ref(x, weight.to(x.dtype), eps=eps) for x, weight in ((q, q_norm), (k, k_norm)))
    c, s = (table[positions][:, None].to(exact.dtype) for table in (cos, sin))
    half = cos.shape[-1]

    def rotated(x: Tensor) -> Tensor:
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return torch.cat((a * c - b * s, b * c + a * s, rest), dim=-1).to(qkv.dtype)

    return rotated(q), rotated(k), v.to(qkv.dtype)
