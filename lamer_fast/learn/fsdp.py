"""Parameters of which each rank has some rows, whole while a layer runs: FSDP2 over the layers of a model."""

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from lamer_fast.model.adapters import adapter_names

T = TypeVar("T")


class Sharded(nn.Module):
    """A model as FSDP2 sees it: its layers, and the rest, embeddings and head among it, whole within a call.

    Every rank makes the same passes in the same order, since each needs the rows of all.
    """

    def __init__(self, layers: Iterable[nn.Module], rest: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers, self.rest = nn.ModuleList(layers), nn.ModuleList(rest)

    def forward(self, function: Callable[[], T]) -> T:
        return function()


def shard_fully(model: nn.Module, layers: Iterable[nn.Module], mesh: DeviceMesh, dtype: torch.dtype) -> Any:
    """Leaves this rank its rows of each parameter, in float32 where it is trained, layer after layer.

    Ranks hold equal parameters before; nothing is sent. Layers are gathered in `dtype`, adapters in float32,
    forwards and again backwards; gradients are summed in float32 over the ranks, not averaged.

    Args:
        layers: each is called as a module, within a call of what is returned.

    Returns:
        A `Sharded` that is a FSDPModule too.
    """
    layers = list(layers)
    within = {id(parameter) for layer in layers for parameter in layer.parameters()}
    owners = [m for m in model.modules() if any(id(p) not in within for p in m.parameters(recurse=False))]
    whole = Sharded(layers, owners)
    gathered = None if adapter_names(model) else dtype  # None: in the type of the rows
    precision = MixedPrecisionPolicy(gathered, torch.float32, cast_forward_inputs=False)
    for module in (*layers, whole):
        for parameter in module.parameters():
            if not isinstance(parameter, DTensor):  # not one of a layer's, which come first
                parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else dtype)
        unit: Any = fully_shard(module, mesh=mesh, mp_policy=precision)
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    return whole


@torch.no_grad()
def whole_copy(model: Any, dtype: torch.dtype, device: torch.device | str) -> Any:
    """A frozen copy for who samples beside the rows, in the compute type and adapters in float32."""
    adapters = adapter_names(model)
    moved: dict[int, Any] = {}
    for name, p in model.named_parameters():  # one after another
        kept = torch.float32 if name in adapters else dtype
        moved[id(p)] = nn.Parameter(p.detach().to(device, kept, copy=True), requires_grad=False)
    found = copy.deepcopy(model, moved)
    for buffer in found.buffers():
        buffer.data = buffer.data.to(device)
    return found
