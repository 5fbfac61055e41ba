"""Functions that other packages give by name, through entry points.

    [project.entry-points."lamer_kernels.losses"]      # in another package's pyproject.toml
    softer = "their_package.losses:softer"

Then ``loss="softer"`` calls it. Names of ours come first; theirs are imported by the first call
that uses them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

import torch
from torch import Tensor

from .numbers import check_choice

LOSSES = "lamer_kernels.losses"
ESTIMATORS = "lamer_kernels.estimators"


@lru_cache
def function(group: str, argument: str, name: str, ours: Sequence[str]) -> Callable[..., object]:
    """The function registered as ``name``, none of ``ours``.

    Raises:
        ValueError: nobody has registered it, or two packages have; names what there is, or both.
    """
    points = entry_points(group=group)
    check_choice(argument, name, (*ours, *sorted({point.name for point in points} - set(ours))))
    found = {point.value: point for point in points if point.name == name}
    if len(found) > 1:
        both = " and ".join(f"{value} of {_package(point)}" for value, point in sorted(found.items()))
        raise ValueError(f"{argument} = {name!r} is registered twice: {both}; uninstall one, or rename it")
    (point,) = found.values()
    loaded = point.load()
    if not callable(loaded):
        raise TypeError(f"{argument} = {name!r}: {point.value} is no function, got {type(loaded).__name__}")
    return loaded  # type: ignore[no-any-return]


def refuse_idle(argument: str, name: str, idle: Mapping[str, tuple[object, object]]) -> None:
    """``ValueError`` for a switch, (given, default), that a registered function would not see."""
    for switch, (given, default) in idle.items():
        if given is not default and (isinstance(given, Tensor) or given != default):
            said = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else repr(given)
            raise ValueError(
                f"{switch} does not reach {argument} = {name!r}, which another package has registered, got "
                f"{said}: give it in {argument}_options"
            )


def checked(argument: str, name: str, out: object, like: Tensor, dtypes: Sequence[torch.dtype]) -> Tensor:
    """What a registered function returned; ``ValueError`` unless it has ``like``'s shape and device."""
    fits = isinstance(out, Tensor) and out.shape == like.shape and out.device == like.device
    if not isinstance(out, Tensor) or not fits or out.dtype not in dtypes:
        found = f"{tuple(out.shape)} {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
        wanted = f"{tuple(like.shape)} {' or '.join(map(str, dtypes))} on {like.device}"
        raise ValueError(f"{argument} = {name!r} returned {found}, expected {wanted}")
    return out


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
