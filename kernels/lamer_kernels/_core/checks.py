"""Checks of the tensors at the border of every op, and the conversions that lose nothing.

Shapes, dtypes and devices always; values where they can be read without waiting for a GPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .numbers import check_choice as check_choice

INT_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
FLOAT_DTYPES = (torch.float32, torch.float64)
OFFSET_DTYPES = (torch.int64, torch.int32)

_DTENSOR_WAYS = (
    "A head that FSDP2 shards as a unit of its own: make it a lamer_kernels.LamerHead and call that, or call "
    "head.unshard() before reading head.weight, or give weight.full_tensor(grad_placements=[Partial('avg')]) "
    "(a plain full_tensor() gives a wrong gradient). Data: x.to_local(), where it holds whole rows"
)


def check_tensor(
    name: str,
    x: object,
    *,
    shape: tuple[int | None, ...] | None,
    dtypes: Sequence[torch.dtype],
    like: Tensor | None = None,
) -> None:
    """Raises ``TypeError`` or ``ValueError``, naming ``name``, what it must be and what it is.

    Args:
        shape: wanted sizes; ``None`` stands for any size, or for any shape.
        like: a tensor whose device ``x`` must share.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if type(x).__name__ == "DTensor":  # by name: torch.distributed is not imported for the sake of an error
        raise ValueError(f"{name} must be a whole tensor of this rank, got a DTensor. {_DTENSOR_WAYS}")
    if x.layout is not torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got layout {x.layout}")
    if x.dtype not in dtypes:
        raise ValueError(f"{name} must be {_names(dtypes)}, got {_names([x.dtype])}")
    sizes = (None,) * x.dim() if shape is None else shape
    if x.shape != sizes and not _fits(x.shape, sizes):
        wanted = ", ".join("any" if n is None else str(n) for n in sizes)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(x.shape)}")
    if like is not None and x.device != like.device:
        raise ValueError(f"{name} must be on {like.device} as the other tensors, got {x.device}")


def _fits(got: torch.Size, wanted: tuple[int | None, ...]) -> bool:
    if len(got) != len(wanted):
        return False
    for n, w in zip(got, wanted, strict=True):  # noqa: SIM110, a generator takes as long as all other checks
        if w is not None and w != n:
            return False
    return True


def has_values(x: Tensor) -> bool:
    """A plain tensor that is not being traced: its values are there, if on a GPU at the cost of waiting."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type != "meta"
        and type(x) is Tensor
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def readable(x: Tensor) -> bool:
    """Its values cost nothing to look at."""
    return has_values(x) and x.device.type == "cpu"


def check_offsets(name: str, offsets: Tensor, total: int) -> None:
    """Cumulative lengths start at 0, never fall and end at ``total``. Synchronises with a GPU."""
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0 or last != total:
        raise ValueError(f"{name} must run from 0 to {total}, got {first} to {last}")
    if bool((offsets[1:] < offsets[:-1]).any()):
        raise ValueError(f"{name} must not fall, got {offsets.tolist()[:16]}")


def check_cu(name: str, offsets: Tensor, total: int, *, like: Tensor, validate: bool) -> None:
    """Offsets of ``total`` rows; their values where they can be read, or where ``validate`` asks for it."""
    check_tensor(name, offsets, shape=(None,), dtypes=OFFSET_DTYPES, like=like)
    if len(offsets) == 0:
        raise ValueError(f"{name} must hold at least the offset 0, got shape (0,)")
    if len(offsets) == 1 and total > 0:
        raise ValueError(f"{name} must run from 0 to {total}, got one offset")
    if validate or readable(offsets):
        check_offsets(name, offsets, total)


def as_mask(name: str, x: Tensor, *, validate: bool = False) -> Tensor:
    """A bool mask; integers of 0 and 1 count as one (read on the CPU, or where ``validate`` asks for it)."""
    if not isinstance(x, Tensor) or x.dtype not in INT_DTYPES:
        return x
    if (validate or readable(x)) and not bool(((x == 0) | (x == 1)).all()):
        low, high = (int(end) for end in x.aminmax())
        raise ValueError(f"{name} must be bool, or integers 0 and 1, got {low} to {high}")
    return x != 0


def as_floats(*xs: Tensor) -> tuple[Tensor, ...]:
    """Integers count as float64, and so do then the others."""
    if not any(isinstance(x, Tensor) and x.dtype in INT_DTYPES for x in xs):
        return xs
    known = (*FLOAT_DTYPES, *INT_DTYPES)
    return tuple(x.double() if isinstance(x, Tensor) and x.dtype in known else x for x in xs)


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
