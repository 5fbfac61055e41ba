"""FlexAttention over packed sequences: blocks against the whole square, values as torch has them on a CPU.

Its gradients exist on a GPU alone: tests/gpu/test_attention.py.
"""

import pytest
import torch

from lamer_kernels.layers import _flex
from lamer_kernels.layers.attention import flex, varlen_attention_ref, vendors

LENGTHS = (1, 300, 0, 127, 128, 129, 0)
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def packed(lengths=LENGTHS, heads=4, kv_heads=2, dim=20):
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(sum(lengths), n, dim, generator=g) for n in (heads, kv_heads, kv_heads))
    return q, k, v, torch.tensor([0, *lengths]).cumsum(0)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_matches_the_definition(causal, kv_heads, dtype):
    q, k, v, cu = packed(kv_heads=kv_heads)
    for _ in range(2):  # the second layer finds the mask of the first
        out = vendors.attention("flex", q, k, v, cu.to(dtype), max(LENGTHS), causal, 0.3, False)
        torch.testing.assert_close(out, varlen_attention_ref(q, k, v, cu, causal=causal, scale=0.3))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS, (700,), (5, 5), (128,) * 5, (64,) * 10], ids=str)
def test_which_blocks_are_skipped(lengths, causal):
    cu = torch.tensor([0, *lengths]).cumsum(0)
    T = sum(lengths)
    mask = flex.block_mask(cu, T, causal)
    num_blocks = -(-T // _flex.BLOCK)
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    at = torch.arange(T)
    seen = sequence[:, None] == sequence[None]
    if causal:
        seen &= at[None] <= at[:, None]
    for i in range(num_blocks):
        for j in range(num_blocks):
            tile = seen[i * _flex.BLOCK : (i + 1) * _flex.BLOCK, j * _flex.BLOCK : (j + 1) * _flex.BLOCK]
            whole = j in mask.full_kv_indices[0, 0, i, : mask.full_kv_num_blocks[0, 0, i]]
            partial = j in mask.kv_indices[0, 0, i, : mask.kv_num_blocks[0, 0, i]]
            assert whole == bool(tile.all())
            assert partial == bool(tile.any() and not tile.all())


def test_offsets_that_change_in_place_are_seen():
    q, k, v, _ = packed((10, 10))
    cu = torch.tensor([0, 10, 20])
    for middle in (10, 3):
        cu[1] = middle
        out = flex.attention(q, k, v, cu, True, 0.3)
        torch.testing.assert_close(out, varlen_attention_ref(q, k, v, cu, causal=True, scale=0.3))
    with torch.inference_mode():
        out = flex.attention(q, k, v, cu.clone(), True, 0.3)


def test_other_lengths_need_no_new_compilation():
    compiled = torch.compile(_flex.flex_attention, dynamic=True, backend="eager")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for lengths in ((300, 20), (7, 500, 3), (128, 128, 128)):
        q, k, v, cu = packed(lengths)
        batch = (x.transpose(0, 1)[None] for x in (q, k, v))
        with torch.no_grad():
            out = compiled(*batch, block_mask=flex.block_mask(cu, len(q), True), enable_gqa=True)
        torch.testing.assert_close(
            out[0].transpose(0, 1), varlen_attention_ref(q, k, v, cu, causal=True, scale=20**-0.5)
        )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
