"""Which implementation of a layer runs, and the shape that all of them work on."""

import torch
from torch import Tensor

from .._core.checks import check_tensor
from .._core.dispatch import HAS_NUMBA, resolve_backend
from ..head.projection import HEAD_DTYPES

CPU_DTYPES = (torch.float32, torch.bfloat16)  # what the numba passes read and write
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def choose(backend: str, x: Tensor) -> str:
    """As `resolve_backend`; "auto" is the reference for the dtypes that a path does not take."""
    on_cpu = x.device.type == "cpu"
    if on_cpu and backend == "auto" and HAS_NUMBA and x.dtype in CPU_DTYPES:
        return "cpu"
    dtypes = CPU_DTYPES if on_cpu else DTYPES[:3]
    if backend == "auto" and x.dtype not in dtypes:
        return "reference"
    resolved = resolve_backend(backend, x.device, cpu_needs_numba=True)
    if resolved == "cpu" and x.dtype not in CPU_DTYPES:
        raise ValueError(f"backend 'cpu' takes float32 and bfloat16, got {x.dtype}")
    if resolved == "triton" and x.dtype is torch.float64:
        raise ValueError("backend 'triton' takes 16- and 32-bit floats, got torch.float64")
    return resolved


def check_heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, int]:
    """(T, D) of q [T, Hq, D] and k, v [T, Hkv, D], Hq a multiple of Hkv; ValueError unless they are so."""
    check_tensor("q", q, shape=(None, None, None), dtypes=HEAD_DTYPES)
    num_tokens, num_heads, dim = q.shape
    check_tensor("k", k, shape=(num_tokens, None, dim), dtypes=(q.dtype,), like=q)
    check_tensor("v", v, shape=tuple(k.shape), dtypes=(q.dtype,), like=q)
    if not dim or not k.shape[1] or not num_heads or num_heads % k.shape[1]:
        raise ValueError(
            f"heads of q must be a multiple of those of k, got {num_heads} and {k.shape[1]} of size {dim}"
        )
    return num_tokens, dim


def wants_gradient(*tensors: Tensor | None) -> bool:
    """False: the kernel may be called as it is, which saves the dispatcher's microseconds at each layer."""
    if torch.compiler.is_compiling():
        return True
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
