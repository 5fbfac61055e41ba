"""Measured rates of a device: what a kernel's time is held against."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Rates:
    flops: float  # floating point operations per second of one large matrix product
    bytes: float  # bytes per second, read and written, of one large copy


@cache
def measure(dtype: torch.dtype, device: torch.device) -> Rates:
    """Best of a few runs of one product and one copy, larger than any cache; a fraction of a second, once."""
    size, copied = (8192, 1 << 30) if device.type == "cuda" else (1024, 1 << 27)
    a = torch.ones(size, size, dtype=dtype, device=device)
    product = torch.empty_like(a)
    source = torch.ones(copied // dtype.itemsize, dtype=dtype, device=device)
    target = torch.empty_like(source)

    def seconds(call: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(4):  # the first is a warm-up
            started = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - started)
        return best

    flops = 2 * size**3 / seconds(lambda: torch.mm(a, a, out=product))
    return Rates(flops, 2 * copied / seconds(lambda: target.copy_(source)))
