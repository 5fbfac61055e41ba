"""Every registered op passes torch.library.opcheck on what the public functions call it with."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lamer_kernels import linear_divergence, tree_attention, varlen_attention
from lamer_kernels._core.namespace import NAMESPACE
from tests.kernels.calls import CALLS, call

CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


class Seen(TorchDispatchMode):
    """Keeps the arguments of the first call of each of our ops."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == NAMESPACE:
            copied = torch.utils._pytree.tree_map(
                lambda x: x.detach().clone() if isinstance(x, torch.Tensor) else x, (args, kwargs or {})
            )
            self.calls.setdefault(op, copied)
        return op(*args, **(kwargs or {}))


def floats(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def of_layers():
    x, cu = floats(6, 8), torch.tensor([0, 2, 6], dtype=torch.int32)
    heads = [floats(6, 2, 4), floats(6, 1, 4), floats(6, 1, 4)]
    yield varlen_attention(*heads, cu, 4)
    ends = torch.tensor([6, 2, 6, 4, 5, 6])
    yield tree_attention(*heads, ends)
    teacher = floats(6, 8).detach(), floats(5, 8).detach()
    yield linear_divergence(x, floats(5, 8), *teacher)[0]


@pytest.fixture(scope="module")
def seen():
    with Seen() as mode:
        for op, (_, _, backends) in CALLS.items():
            call(op, "cpu" if "cpu" in backends else None)
        for out in of_layers():
            out.sum().backward()
    return mode.calls


def registered():
    listed = torch._C._dispatch_get_all_op_names()
    names = {name.split("::")[1].partition(".")[0] for name in listed if name.startswith(f"{NAMESPACE}::")}
    return sorted(names)


# eager calls on a CPU pass these by; they are checked in test_layers.py and test_cached_attention.py
ELSEWHERE = {"rms_norm", "add_rms_norm", "rotary", "swiglu", "embedding", "cached_attention"}


def test_all_of_them_were_called(seen):
    missing = set(registered()) - {op.name().split("::")[1].partition(".")[0] for op in seen}
    assert {name.removesuffix("_backward") for name in missing} <= ELSEWHERE


def test_each_is_registered_as_torch_wants_it(seen):
    for op, (args, kwargs) in seen.items():
        torch.library.opcheck(op, args, kwargs, test_utils=CHECKS)
