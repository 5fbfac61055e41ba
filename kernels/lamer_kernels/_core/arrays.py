"""numpy arrays at the border of the credit ops."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def accepts_numpy(function: F) -> F:
    """Lets a tensor function take numpy arrays: all arrays must be numpy then, and the results are numpy."""
    names = tuple(signature(function).parameters)

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        named = [*zip(names, args, strict=False), *kwargs.items()]
        for name, value in named:
            if isinstance(value, list | tuple):
                raise TypeError(f"{name} must be a torch.Tensor or a numpy array, got {type(value).__name__}")
        if not any(isinstance(value, np.ndarray) for _, value in named):
            return function(*args, **kwargs)
        for name, value in named:
            if isinstance(value, np.ndarray):
                _check_array(name, value)
        if any(isinstance(value, Tensor) for _, value in named):
            raise TypeError(f"{function.__name__}: give either numpy arrays or torch tensors, got both")
        out = function(*map(_to_tensor, args), **{key: _to_tensor(value) for key, value in kwargs.items()})
        if not isinstance(out, tuple):
            return _to_numpy(out)
        return getattr(out, "_make", tuple)(_to_numpy(x) for x in out)

    return wrapper  # type: ignore[return-value]


def _check_array(name: str, x: np.ndarray[Any, Any]) -> None:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost: fill it, and say by the op's own mask "
            "which rows count"
        )
    if x.dtype.kind in "OUS":
        raise TypeError(
            f"{name} must hold numbers, got numpy {x.dtype}: strings become ids by "
            f"np.unique({name}, return_inverse=True)[1]"
        )
    if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        raise TypeError(f"{name} must hold integers, bool or float, got numpy {x.dtype}")


def _to_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    # from_numpy shares memory; it refuses negative strides and foreign byte order, warns of read-only memory
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))


def _to_numpy(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value
