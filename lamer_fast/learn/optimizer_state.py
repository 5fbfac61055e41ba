"""What AdamW remembers, as named tensors for a checkpoint and back: `MASTER/KEY`.

`state` is that of a torch optimizer: parameter -> {"step": ..., "exp_avg": ..., ...}.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from lamer_fast.model.rows import here

# learn.optimizer -> what it keeps in a parameter's shape, and its type; the 8-bit one has more, by blocks
ELEMENTWISE: dict[str, dict[str, torch.dtype | None]] = {
    "adamw": {"exp_avg": torch.float32, "exp_avg_sq": torch.float32},
    "adamw_8bit": {"state1": None, "state2": None},
}
STATE_BYTES = {"adamw": 8, "adamw_8bit": 2}  # of an element of a parameter
NOT_NEGATIVE = "exp_avg_sq"
State = MutableMapping[Tensor, dict[str, Any]]


def state_tensors(state: State, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything remembered; an int becomes a 0-d int64 tensor, a float a 0-d float64 one."""
    tensors: dict[str, Tensor] = {}
    for name, master in masters.items():
        for key, value in state.get(master, {}).items():
            if not isinstance(value, Tensor):
                value = torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
            elif value.shape != master.shape:  # small: the 8-bit one shares its tables between parameters,
                value = value.clone()  # and a file of tensors shares nothing
            tensors[f"{name}/{key}"] = value
    return tensors


def load_state_tensors(state: State, masters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `state_tensors`, each tensor on its parameter's device; check them before."""
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        state[masters[name]][key] = _unboxed(value, key, masters[name].device)


def _unboxed(value: Tensor, key: str, device: torch.device) -> Tensor | int | float:
    if value.ndim and value.device == device and key != "step":
        return value.clone()  # of rows too
    if value.ndim == 0 and value.dtype is torch.int64:
        return int(value)
    if value.ndim == 0 and value.dtype is torch.float64:  # of an int too, in checkpoints of the first version
        return int(value) if key == "step" else float(value)
    dtype = torch.float32 if key == "step" else value.dtype
    return value.to(device, dtype, copy=True)  # the fused AdamW wants even `step` there


def check_state_tensors(
    tensors: Mapping[str, Tensor], masters: Mapping[str, Tensor], kind: str, num_updates: int
) -> None:
    """Raises ValueError unless an optimizer of `kind` over `masters` can have this state after `num_updates`.

    Args:
        kind: learn.optimizer.
    """
    expected = {"step", *ELEMENTWISE[kind]}
    remembered: dict[str, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        if name not in masters:
            raise ValueError(f"the optimizer's state has {name!r}, which is no parameter of the model")
        if kind == "adamw" and key not in expected:
            raise ValueError(f"the optimizer's state has {full}, which {kind} does not keep")
        remembered.setdefault(name, {})[key] = value
    steps = []
    for name, values in remembered.items():
        if missing := sorted(expected - values.keys()):
            raise ValueError(f"the optimizer's state lacks {name}/{missing[0]}")
        for key, dtype in ELEMENTWISE[kind].items():
            check_tensor(f"{name}/{key}", values[key], masters[name].shape, dtype or values[key].dtype)
        for key, value in values.items():
            check_finite(f"{name}/{key}", value, at_least_zero=key == NOT_NEGATIVE)
        if values["step"].numel() != 1:
            raise ValueError(f"{name}/step has shape {tuple(values['step'].shape)}, expected one number")
        steps.append(float(values["step"]))
    if (steps or num_updates) and (not steps or min(steps) < 1 or max(steps) != num_updates):
        span = f"{min(steps):g} to {max(steps):g}" if steps else "none"
        raise ValueError(f"the optimizer's state counts {span} updates, the run has made {num_updates}")


def check_tensor(name: str, value: Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
    if value.shape != shape or value.dtype != dtype:
        found = f"{tuple(value.shape)} {_type(value.dtype)}"
        raise ValueError(f"{name} is {found}, expected {tuple(shape)} {_type(dtype)}")


def check_finite(name: str, value: Tensor, *, at_least_zero: bool = False) -> None:
    value = here(value)
    wrong = int((~value.isfinite()).sum()) if value.is_floating_point() else 0
    if wrong:
        raise ValueError(f"{name} has {wrong} of {value.numel()} values that are not finite")
    if at_least_zero and value.numel() and float(value.min()) < 0:
        raise ValueError(f"{name} has {float(value.min()):g}, a mean of squares cannot be negative")


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
