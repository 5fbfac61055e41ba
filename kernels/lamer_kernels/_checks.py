"""Checks at the border of every op: shapes, dtypes and devices always, values only where the op says so."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

INT_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FLOAT_DTYPES = (torch.float32, torch.float64)

F = TypeVar("F", bound=Callable[..., Any])


def check_tensor(
    name: str,
    x: Tensor,
    *,
    shape: tuple[int | None, ...],
    dtypes: Sequence[torch.dtype],
    like: Tensor | None = None,
) -> None:
    """Raises ``TypeError`` or ``ValueError``, naming ``name``, what it must be and what it is.

    Args:
        shape: wanted sizes; ``None`` stands for any size.
        like: a tensor whose device ``x`` must share.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor or a numpy array, got {type(x).__name__}")
    if x.dtype not in dtypes:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"{name} must be {wanted}, got {str(x.dtype).removeprefix('torch.')}")
    if x.dim() != len(shape) or any(w is not None and w != n for w, n in zip(shape, x.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(x.shape)}")
    if like is not None and x.device != like.device:
        raise ValueError(f"{name} must be on {like.device} as the other tensors, got {x.device}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {tuple(choices)}, got {value!r}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")


def check_offsets(name: str, offsets: Tensor, total: int) -> None:
    """Cumulative lengths start at 0, never fall and end at ``total``. Synchronises with a GPU."""
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0 or last != total:
        raise ValueError(f"{name} must run from 0 to {total}, got {first} to {last}")
    if bool((offsets[1:] < offsets[:-1]).any()):
        raise ValueError(f"{name} must not fall, got {offsets.tolist()[:16]}")


def accepts_numpy(function: F) -> F:
    """Lets a tensor function take numpy arrays: all arrays must be numpy then, and the results are numpy."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        if not any(isinstance(value, np.ndarray) for value in values):
            return function(*args, **kwargs)
        if any(isinstance(value, Tensor) for value in values):
            raise TypeError(f"{function.__name__}: give either numpy arrays or torch tensors, got both")
        out = function(*map(_to_tensor, args), **{key: _to_tensor(value) for key, value in kwargs.items()})
        return tuple(_to_numpy(x) for x in out) if isinstance(out, tuple) else _to_numpy(out)

    return wrapper  # type: ignore[return-value]


def _to_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    # from_numpy shares memory; it refuses negative strides and warns about read-only memory (memory maps)
    return torch.from_numpy(np.require(value, requirements=["C", "W"]))


def _to_numpy(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value
