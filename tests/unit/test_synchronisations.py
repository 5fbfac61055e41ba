"""How often the host waits for the device: once an update, never inside a micro-batch; one copy in.

What a micro-batch does runs without data in test_cuda_placement.py, where reading a value raises.
"""

from collections import Counter
from functools import partial

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lamer_fast.config import Config
from lamer_fast.learn.batch import ON_HOST, send
from lamer_fast.learn.update import LearnStats, update
from lamer_fast.run.state import make_algorithm
from tests.unit.test_cuda_placement import packed
from tests.unit.test_update import make_policy

READS = {
    Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.nonzero, torch.nonzero, Tensor.__float__,
    Tensor.__int__, Tensor.__bool__, Tensor.__index__,
}  # fmt: skip


class Reads(TorchFunctionMode):
    """Counts what would wait for a GPU, outside forward and backward passes; a mask as an index waits too."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        by_mask = func is Tensor.__getitem__ and isinstance(args[1], Tensor) and args[1].dtype is torch.bool
        if func in READS or by_mask:
            self.counts[getattr(func, "__name__", str(func))] += 1
        return func(*args, **(kwargs or {}))


def test_an_update_waits_once():
    policy = make_policy()
    algorithm = make_algorithm(Config(), policy, updates=10)
    losses = algorithm.losses

    def uncounted(batch):
        def computed(loss):
            with torch._C.DisableTorchFunction():
                return loss()

        return {name: partial(computed, loss) for name, loss in losses(batch).items()}

    algorithm.losses = uncounted
    stats = LearnStats()
    for _ in range(2):  # the first update has more to keep
        minibatch = [packed("cpu", algorithm.config) for _ in range(3)]
        with Reads() as reads:
            assert update(algorithm, minibatch, stats) == "applied"
        assert reads.counts == {"tolist": 1}


class Copies(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.devices = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and "device" in kwargs:
            self.devices.append(kwargs["device"].type)
        return func(*args, **kwargs)


def test_a_micro_batch_goes_in_by_one_copy():
    batch = packed("cpu")
    with Copies() as copies:
        moved = batch.to("meta")
    assert copies.devices == ["meta"]
    assert {name for name, x in moved.tensors().items() if x.device.type == "cpu"} == set(ON_HOST)


def test_what_is_sent_arrives():
    made = {"a": torch.arange(7), "b": torch.randn(3), "c": torch.ones(5).int(), "d": torch.zeros(0)}
    host = send(made, "cpu")
    assert all(host[name] is x for name, x in made.items())
    there = send(made, "meta")
    assert {n: (x.shape, x.dtype) for n, x in there.items()} == {
        n: (x.shape, x.dtype) for n, x in made.items()
    }
