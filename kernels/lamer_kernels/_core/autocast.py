"""Ops that compute in the dtype of their inputs whatever autocast says."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# asked once: torch 2.11 cannot trace the question
AUTOCAST_DEVICES = frozenset(t for t in ("cpu", "cuda", "xpu", "mps") if torch.amp.is_autocast_available(t))


def autocast_off(x: Tensor) -> AbstractContextManager[object]:
    """Autocast would round float32 inside to 16 bit, in the forward pass or round a backward pass."""
    if x.device.type in AUTOCAST_DEVICES:
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
