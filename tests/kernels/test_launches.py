"""What Triton is asked for at a launch: the tensors' device, one compilation for every chunk start."""

import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lamer_kernels
from tests.kernels.ahead_of_time import Driver
from tests.kernels.credit import make_trials, tensors
from tests.kernels.forms import launch_all

triton = pytest.importorskip("triton")
interpreting = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(interpreting, reason="the interpreter compiles nothing")


@pytest.fixture
def launches(monkeypatch):
    """Launches are written down, not run: (kernel, tensor whose device is current, what is specialised)."""
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    seen, current = [], []

    @contextmanager
    def device_of(x):
        current.append(x)
        yield
        current.pop()

    def run(kernel, *args, grid, warmup, **options):
        binder = kernel.create_binder()[-1]
        seen.append((kernel.fn.__name__, current[-1] if current else None, str(binder(*args, **options)[1])))

    monkeypatch.setattr(driver, "_active", Driver())
    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    return seen


def test_every_launch_is_on_the_device_of_its_tensors(launches):
    launch_all()
    names = {name for name, _, _ in launches}
    assert names == {"row_stats_kernel", "write_dlogits_kernel", "policy_rows_kernel", "policy_terms_kernel",
                     "divergence_rows_kernel", "moments_kernel", "returns_kernel"}  # fmt: skip
    assert all(on is not None for _, on, _ in launches)


def test_no_kernel_is_launched_in_another_place():
    source = Path(lamer_kernels.__file__).parent
    launching = [path.name for path in source.rglob("*.py") if re.search(r"kernel\[", path.read_text())]
    assert launching == ["launch.py"]


def test_where_a_chunk_starts_is_not_specialised(launches):
    for start in range(8):  # 4 bytes a value: aligned to 16 bytes at 0 and 4
        launch_all(start)
    head = {(name, key) for name, _, key in launches if name not in ("moments_kernel", "returns_kernel")}
    assert len(head) == len({name for name, _ in head}) == 5


def test_no_rows_no_launch(launches):
    launch_all(num_rows=0)
    assert {name for name, _, _ in launches} == {"returns_kernel"}  # one trial of no turns


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("switches", "count"),
    [({}, 2), ({"scale": "std", "episode_credit": "own"}, 2), ({"estimator": "reinforce++"}, 3)],
    ids=str,
)
def test_grouped_credit_is_at_most_three_launches_and_no_sort(launches, switches, count):
    from lamer_kernels.credit.meta import gpu
    from lamer_kernels.credit.switches import Switches, resolve

    trials = tensors(make_trials(0))
    names = ("rewards", "phase", "episode", "group", "cu_trials", "anchors", "valid")
    columns = [trials[name] for name in names]
    if "estimator" in switches:
        columns[5] = None
    with Operations() as operations:
        gpu.meta_advantages(columns, resolve(Switches(**switches)))
    assert len(launches) == count
    assert set(operations.names) <= {"new_empty", "empty", "fill_"}, "filling is the tests' poison"
