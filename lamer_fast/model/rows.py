"""Rows of a tensor that several ranks share: DTensors sharded along their first dimension."""

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor


def rows_of(tensor: Tensor, mesh: DeviceMesh) -> DTensor:
    """This rank's rows of a tensor that is equal on all; nothing is sent. Float32, in memory of its own."""
    rows = distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None)
    return DTensor.from_local(
        rows.to_local().float().clone(), mesh, [Shard(0)], run_check=False, shape=tensor.shape,
        stride=tensor.stride(),
    )  # fmt: skip


def summed_rows(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's rows of the sum of the ranks' tensors, as those of `like`; every rank calls it."""
    assert isinstance(like, DTensor)
    return DTensor.from_local(tensor, like.device_mesh, [Partial()]).redistribute(placements=like.placements)


def whole(tensor: Tensor) -> Tensor:
    """All rows of it on every rank, which all call it; a tensor without shards as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def here(tensor: Tensor) -> Tensor:
    """The rows of it that this rank has; all of a tensor without shards."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
