"""pack: a valid, deterministic, tight plan, the same on every backend."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamer_kernels import pack
from lamer_kernels.packing import cpu
from lamer_kernels.packing.op import pack_op
from tests.kernels.credit import BACKENDS, same_bits

MAX_TOKENS = 16_384


def committed_lengths():
    return np.load(Path(__file__).parent / "data" / "pack_lengths.npz")["lengths"]


def best_fit(lengths, max_tokens):
    """Best-fit decreasing by a search over all bins; ties go to the bin touched last."""
    bins, rooms, touched = np.zeros(len(lengths), int), [], []
    for clock, i in enumerate(np.argsort(-lengths, kind="stable")):
        fits = [b for b, room in enumerate(rooms) if room >= lengths[i]]
        chosen = min(fits, key=lambda b: (rooms[b], -touched[b])) if fits else len(rooms)
        if not fits:
            rooms.append(max_tokens)
            touched.append(0)
        rooms[chosen] -= lengths[i]
        touched[chosen] = clock
        bins[i] = chosen
    return bins


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None)  # the first call compiles
@given(
    st.integers(1, 5000).flatmap(lambda m: st.tuples(st.just(m), st.lists(st.integers(0, m), max_size=60)))
)
@example((64, [64, 63, 1, 0, 0, 64]))
@example((4096, [1] * 60))
def test_matches_a_search_over_all_bins(backend, case):
    max_tokens, lengths = case
    lengths = np.array(lengths, np.int64)
    bins = pack(lengths, max_tokens, backend=backend)
    assert bins.dtype == np.int64 and bins.tolist() == best_fit(lengths, max_tokens).tolist()
    assert not len(lengths) or np.bincount(bins, weights=lengths).max() <= max_tokens


def test_committed_lengths_fill_their_bins():
    lengths = committed_lengths()
    bins = pack(lengths, MAX_TOKENS)
    filled = np.bincount(bins, weights=lengths)
    assert len(lengths) == 100_000 and filled.max() <= MAX_TOKENS and filled.min() > 0
    assert len(filled) <= 1.02 * np.ceil(lengths.sum() / MAX_TOKENS)
    assert same_bits(bins, pack(lengths, MAX_TOKENS))
    assert same_bits(bins[:3000] * 0, pack(np.zeros(3000, np.int64), MAX_TOKENS))


def test_committed_lengths_are_those_of_their_script():
    from tests.kernels.data.make_pack_lengths import make_lengths

    assert same_bits(committed_lengths(), make_lengths())


def test_backends_agree_on_the_committed_lengths():
    lengths = committed_lengths()[:20_000]
    assert same_bits(pack(lengths, MAX_TOKENS, backend="cpu"), pack(lengths, MAX_TOKENS, backend="reference"))


def test_capacity_beyond_the_tables():
    huge = cpu.MAX_ROOM + 1
    lengths = np.array([huge, 5, huge - 5, 1])
    assert pack(lengths, huge, backend="cpu").tolist() == [0, 1, 1, 2]


def test_edges_and_kinds():
    assert pack(np.empty(0, np.int64), 10).shape == (0,)
    out = pack(torch.tensor([3, 4], dtype=torch.int32), 10)
    assert isinstance(out, torch.Tensor) and out.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "message"),
    [
        ([3, 11, 4], 10, r"lengths\[1\] = 11 exceeds max_tokens = 10"),
        ([3, -1], 10, "lengths must not be negative, got -1 at 1"),
        ([3], 0, r"max_tokens must lie in \[1, 2\*\*63\), got 0"),
    ],
)
def test_bad_input_is_named(lengths, max_tokens, message):
    with pytest.raises(ValueError, match=message):
        pack(np.array(lengths), max_tokens)
    with pytest.raises(ValueError, match=r"lengths must be int64.* got float64"):
        pack(np.array(lengths, np.float64), 10)
    with pytest.raises(ValueError, match="pack plans on the host"):
        pack(np.array([1]), 10, backend="triton")


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend):
    torch.library.opcheck(pack_op, (torch.tensor([3, 4, 9]), 10, backend))
