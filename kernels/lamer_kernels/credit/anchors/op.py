"""anchor_groups: contract, checks and registration."""

import torch
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import INT_DTYPES, check_tensor
from ..._core.dispatch import Backend, resolve_backend
from ..._core.namespace import qualified
from .reference import pair_ids_ref


@accepts_numpy
def anchor_groups(group: Tensor, anchors: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Dense ids of (group, anchor) pairs: the step groups of GiGPO.

    Args:
        group: [R] integer, any values.
        anchors: [R] int64, bit patterns of the hash of the state before the turn; all 64 bits are compared.

    Returns:
        [R] int64: equal where both are equal, numbered 0, 1, ... in order of first appearance.

    Raises:
        ValueError, TypeError: a shape, dtype or device is wrong. View uint64 hashes as int64.
    """
    check_tensor("group", group, shape=(None,), dtypes=INT_DTYPES)
    check_tensor("anchors", anchors, shape=tuple(group.shape), dtypes=(torch.int64,), like=group)
    out: Tensor = pair_ids_op(
        group, anchors, resolve_backend(backend, group.device, cpu_needs_numba=True, rows=len(group))
    )
    return out


@torch.library.custom_op(qualified("anchor_groups"), mutates_args=())
def pair_ids_op(a: Tensor, b: Tensor, backend: str) -> Tensor:
    if backend == "reference":
        return pair_ids_ref(a, b)
    if backend == "triton":
        from . import gpu

        return gpu.pair_ids(a, b)
    from . import cpu

    ids, _ = cpu.pair_ids(*cpu.dense_ids(a.long().contiguous().numpy()), b.contiguous().numpy())
    return torch.from_numpy(ids).long()


@pair_ids_op.register_fake
def _(a: Tensor, b: Tensor, backend: str) -> Tensor:
    return a.new_empty(a.shape, dtype=torch.int64)
