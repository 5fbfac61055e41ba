"""Which implementation of an op runs: one rule for the whole package."""

import os
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, get_args

import torch

from .autocast import autocast_off

Backend = Literal["auto", "triton", "cpu", "reference"]
# Up to it a call of a credit op or of `pack` is at most 3 ms of torch; numba starts with 5.6 CPU-seconds of
# compiling where its cache is empty, as in each new container, and with 0.5 s where it is full.
FEW_ROWS = 4096


def resolve_backend(
    backend: str, device: torch.device, *, cpu_needs_numba: bool = False, rows: int | None = None
) -> str:
    """Name of the implementation to run: "triton", "cpu" or "reference", never "auto".

    "auto" takes Triton for CUDA tensors and the CPU path for CPU tensors; where the package that they need is
    absent, and on a CPU for few `rows`, the reference, which runs anywhere. A backend asked for by name runs
    or raises ``ValueError``.

    Args:
        device: where the tensors are.
        cpu_needs_numba: the op's ``cpu.py`` is numba code (credit ops), not torch code (loss head).
        rows: turns, or sequences, of this call, where the reference is quick for up to `FEW_ROWS` of them.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    can_triton = HAS_TRITON and (device.type == "cuda" or interpreting())
    can_cpu = device.type == "cpu" and (HAS_NUMBA or not cpu_needs_numba)
    if backend == "auto":
        if device.type == "cuda" and can_triton:
            return "triton"
        few = cpu_needs_numba and rows is not None and rows <= FEW_ROWS
        return "cpu" if can_cpu and not few else "reference"
    if backend == "triton" and not can_triton:
        raise ValueError(f"backend 'triton' needs the triton package and CUDA tensors, got {device} tensors")
    if backend == "cpu" and not can_cpu:
        needs = " and the numba package" if cpu_needs_numba else ""
        raise ValueError(f"backend 'cpu' needs CPU tensors{needs}, got {device} tensors")
    return backend


F = TypeVar("F", bound=Callable[..., Any])


def without_autocast(function: F) -> F:
    """The function computes in the dtypes of its arguments, also inside torch.autocast."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with autocast_off(next(x for x in args if isinstance(x, torch.Tensor))):
            return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def has_package(name: str) -> bool:
    return find_spec(name) is not None


HAS_TRITON, HAS_NUMBA = has_package("triton"), has_package("numba")


def interpreting() -> bool:
    """True where Triton kernels run in its CPU interpreter (a debugging aid, used by the tests)."""
    return os.environ.get("TRITON_INTERPRET") == "1"
