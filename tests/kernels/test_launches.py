"""What Triton is asked for at a launch: the tensors' device, one compilation for every chunk start."""

import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lamer_kernels
from tests.kernels.credit import make_trials, tensors

triton = pytest.importorskip("triton")
interpreting = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(interpreting, reason="the interpreter compiles nothing")
V = 61


class Driver:
    """What the JIT asks of a driver before it compiles."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0


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


def launch_all(start=0, num_rows=3):
    """Every kernel of the package once, on rows of longer tensors from ``start`` on."""
    from lamer_kernels.credit.groups import gpu as groups
    from lamer_kernels.credit.returns import gpu as returns
    from lamer_kernels.head.divergence.launch import divergence_rows
    from lamer_kernels.head.divergence.rows import Rows
    from lamer_kernels.head.logprob import launch
    from lamer_kernels.head.logprob.cpu import RowGrads, RowStats
    from lamer_kernels.head.policy.launch import policy_rows, policy_terms
    from lamer_kernels.head.policy.terms import LossConfig, TokenData
    from lamer_kernels.head.projection import Head

    rows = slice(start, start + num_rows)
    logits, per_row = torch.zeros(num_rows, V), torch.zeros(40)[rows]
    targets = torch.zeros(40, dtype=torch.int64)[rows]
    head = Head(torch.zeros(V, 2), None, None, per_row)
    launch.row_stats(logits, targets, head, per_row, entropy=True, sum_sq=True)
    stats, grads = RowStats(*[per_row] * 5), RowGrads(*[per_row] * 3)
    launch.write_dlogits(None, logits, targets, stats, grads, head, per_row, torch.float32)
    config = LossConfig(
        loss="clip", clip_low=0.2, clip_high=0.2, dual_clip=None, log_ratio_clip=None, kl="k3", kl_coef=0.1,
        kl_clip=None, entropy_coef=0.1,
    )  # fmt: skip
    policy_rows(logits, targets, head, per_row, TokenData(*[per_row] * 5), config, torch.float32)
    policy_terms(config, per_row, per_row, TokenData(*[per_row] * 5))
    outputs = (per_row, per_row, per_row)
    rows = Rows(targets, per_row, outputs, "jensen_shannon", 0.5, 0.7, torch.float32)
    divergence_rows(logits, logits, rows)
    ids = torch.arange(num_rows)
    if num_rows:
        groups.group_advantages(per_row, ids, None, None, None, "turn", "mean", "std", "zero", 1e-6)
    returns.run([per_row, per_row, ids, ids, torch.tensor([0, num_rows])], (per_row, per_row), (1.0,) * 4,
                paper=True, gae=False)  # fmt: skip


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
