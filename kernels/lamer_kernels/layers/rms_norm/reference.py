"""Reference: the definition of the norms. Any float dtype; arithmetic in at least float32, rounded once."""

import torch
from torch import Tensor


def rms_norm_ref(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    factor = (exact.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (exact * factor * weight.to(exact.dtype)).to(x.dtype)


def add_rms_norm_ref(x: Tensor, update: Tensor, weight: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    total = x + update
    return total, rms_norm_ref(total, weight, eps=eps)
