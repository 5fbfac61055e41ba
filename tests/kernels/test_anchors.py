"""anchor_groups: exact 64-bit keys, dense ids in order of first appearance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamer_kernels import anchor_groups
from lamer_kernels.credit.anchors.op import pair_ids_op
from tests.kernels.credit import BACKENDS

LOW, HIGH = -(2**63), 2**63 - 1
EDGES = st.one_of(st.integers(LOW, HIGH), st.sampled_from([LOW, -1, 0, 1, HIGH - 1, HIGH, 2**53, 2**53 + 1]))


def dictionary(group, anchors):
    ids = {}
    return [ids.setdefault(pair, len(ids)) for pair in zip(group, anchors, strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None)  # the first call compiles
@given(rows=st.lists(st.tuples(EDGES, EDGES), max_size=40), repeats=st.lists(st.integers(0, 39), max_size=40))
def test_matches_a_dictionary(backend, rows, repeats):
    rows = [*rows, *(rows[i] for i in repeats if i < len(rows))]
    group, anchors = (np.array([row[i] for row in rows], np.int64) for i in range(2))
    ids = anchor_groups(group, anchors, backend=backend)
    assert ids.dtype == np.int64 and ids.tolist() == dictionary(group.tolist(), anchors.tolist())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (5, 5 + LOW),  # bit 63 alone
        (0, LOW),
        (7 << 32, (7 << 32) + 1),  # the low 32 bits alone
        (1 << 32, 2 << 32),  # the high 32 bits alone
        (2**62, 2**62 + 1),  # one float64
        (HIGH, HIGH - 1),
        (-1, 2**32 - 1),  # one uint32
    ],
)
def test_near_anchors_stay_apart(a, b, backend):
    assert (float(a) == float(b)) or a % 2**32 == b % 2**32 or a >> 32 == b >> 32
    anchors = np.array([a, b, a, b, b], np.int64)
    assert anchor_groups(np.zeros(5, np.int32), anchors, backend=backend).tolist() == [0, 1, 0, 1, 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_keys_in_one_hash_bucket(backend):
    """Consecutive, strided and bit-reversed keys fill tables unevenly; ids stay exact."""
    k = np.arange(300, dtype=np.int64)
    for anchors in (k, k << 32, k << 40, k * 0x9E3779B9, k ^ (k << 32)):
        group = (k % 3).astype(np.int32)
        twice = anchor_groups(np.tile(group, 2), np.tile(anchors, 2), backend=backend)
        assert twice.tolist() == list(range(300)) * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_and_one_row(backend):
    nothing = np.empty(0, np.int64)
    assert anchor_groups(nothing, nothing, backend=backend).shape == (0,)
    assert anchor_groups(np.array([HIGH]), np.array([LOW]), backend=backend).tolist() == [0]


def test_bad_input_is_named():
    group = torch.zeros(4, dtype=torch.int32)
    with pytest.raises(ValueError, match="anchors must be int64, got float64"):
        anchor_groups(group, torch.zeros(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="anchors must be int64, got uint64"):
        anchor_groups(np.zeros(4, np.int32), np.zeros(4, np.uint64))
    with pytest.raises(ValueError, match=r"anchors must have shape \(4\), got \(3,\)"):
        anchor_groups(group, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"anchors must be a torch\.Tensor or a numpy array, got list"):
        anchor_groups(group, [1, 2, 3, 4])


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend):
    group, anchors = torch.tensor([0, 0, 1], dtype=torch.int32), torch.tensor([LOW, LOW, HIGH])
    torch.library.opcheck(pair_ids_op, (group, anchors, backend))
