"""cached_attention: rows of any width over any slots against plain attention in float64.

Runs on a CPU, on a GPU, and (TRITON_INTERPRET=1, `-m interpret`) as Triton kernels on a CPU.
"""

import pytest
import torch

from lamer_kernels.layers import cached_attention, new_slots
from lamer_kernels.layers.attention import varlen_attention_ref
from lamer_kernels.layers.cached_attention import read_slot
from tests.kernels.head import relative_error

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
TRITON = pytest.param("triton", marks=pytest.mark.gpu if CUDA else pytest.mark.interpret)
BACKENDS = ["reference", TRITON] if CUDA else ["cpu", "reference", TRITON]
# one rounding of the output; probabilities of a tile are rounded before they meet the values (Triton)
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
SLOTS, TOKENS = 5, 200  # the last block of a slot is not full
# what passes add to each slot: prompts in chunks, rows that decode meanwhile, slots that stay as they are
PASSES = [{3: 70, 0: 1}, {3: 1, 1: 130, 4: 3}, {3: 1, 0: 1, 1: 1, 4: 1}, {0: 66, 4: 1}]
SHAPES = [(4, 2, 16), (7, 1, 32), (3, 3, 20), (6, 2, 128)]  # query heads, key heads, head size


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().double()


def sequences(heads, kv_heads, D):
    """q, k, v of every slot in full, [tokens, heads, D] each, float64."""
    lengths = [sum(p.get(slot, 0) for p in PASSES) for slot in range(SLOTS)]
    return {
        slot: [randn(n, h, D, seed=10 * slot + i) for i, h in enumerate((heads, kv_heads, kv_heads))]
        for slot, n in enumerate(lengths)
    }


def run(slots, dtype, backend, **options):
    """The passes over `slots`; outputs per slot, and the cache."""
    kv_heads, D = slots[0][1].shape[1:]
    cache = new_slots(SLOTS, TOKENS, kv_heads, D, dtype, DEVICE)
    out, held = {slot: [] for slot in slots}, dict.fromkeys(slots, 0)
    for rows in PASSES:
        spans = {slot: slice(held[slot], held[slot] + n) for slot, n in rows.items()}
        q, k, v = (torch.cat([slots[s][i][span] for s, span in spans.items()]) for i in range(3))
        index = torch.cat([torch.full((n,), slot) for slot, n in rows.items()])
        positions = torch.cat([torch.arange(span.start, span.stop) for span in spans.values()])
        cu_seqlens = torch.tensor([0, *rows.values()]).cumsum(0)
        tensors = [x.to(DEVICE, dtype) for x in (q, k, v)]
        offsets = [x.to(DEVICE) for x in (index, positions, cu_seqlens)]
        done = cached_attention(*tensors, *cache, *offsets, backend=backend, **options)
        assert done.dtype is dtype and done.shape == q.shape
        for (slot, n), part in zip(rows.items(), done.split(list(rows.values())), strict=True):
            out[slot].append(part)
            held[slot] += n
    return {slot: torch.cat(parts) for slot, parts in out.items() if parts}, cache


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_attention_without_a_cache(shape, dtype, backend):
    slots = sequences(*shape)
    out, (keys, values) = run(slots, dtype, backend)
    for slot, ours in out.items():
        q, k, v = (x.to(dtype) for x in slots[slot])
        offsets = torch.tensor([0, len(q)])
        truth = varlen_attention_ref(*slots[slot], offsets)
        plain = varlen_attention_ref(q, k, v, offsets)
        assert relative_error(ours.cpu(), truth) <= 2 * relative_error(plain, truth) + ROUNDING[dtype], slot
        for stored, given in zip(read_slot(keys, values, slot, len(k)), (k, v), strict=True):
            assert torch.equal(stored.cpu(), given.transpose(0, 1)), "the cache holds what it was given"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_does_not_depend_on_what_else_a_pass_or_a_cache_holds(backend):
    """Another slot, other rows beside it, garbage behind it: the same bits, in float32 too."""
    q, k, v = (randn(n, 2, 16, seed=i).float().to(DEVICE) for i, n in enumerate((1, 1, 1)))
    past = [randn(SLOTS, *s, seed=7).float().to(DEVICE) for s in ((2, 4, 16, 64), (2, 256, 16))]
    results = []
    for slot, others in ((1, []), (1, [4, 0]), (2, [1])):
        keys, values = (x.clone() for x in past)
        for cached, source in ((keys, past[0]), (values, past[1])):
            cached[slot] = source[1]
        keys[slot, :, 2:], values[slot, :, 128:] = torch.nan, torch.nan  # behind position 100
        index = torch.tensor([*others, slot], device=DEVICE)
        n = len(index)
        rows = [x.expand(n, -1, -1).contiguous() for x in (q, k, v)]
        positions, cu = torch.full((n,), 100, device=DEVICE), torch.arange(n + 1, device=DEVICE)
        results.append(cached_attention(*rows, keys, values, index, positions, cu, backend=backend)[-1])
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert results[0].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_scale_and_nothing(backend):
    slots = sequences(4, 2, 16)
    out, cache = run(slots, torch.float32, backend, scale=0.05)
    truth = varlen_attention_ref(*slots[1], torch.tensor([0, len(slots[1][0])]), scale=0.05)
    assert relative_error(out[1].cpu(), truth) < 1e-6
    q, k, none = torch.zeros(0, 4, 16), torch.zeros(0, 2, 16), torch.zeros(0, dtype=torch.int64)
    empty = [x.to(DEVICE) for x in (q, k, k)], [x.to(DEVICE) for x in (none, none, torch.zeros(1).long())]
    assert cached_attention(*empty[0], *cache, *empty[1], backend=backend).shape == q.shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [1, 30, 3, 0]])
def test_rows_of_no_slot_are_padding(counts, backend):
    """They store nothing and come out as 0; the others have the bits that they have without them."""
    n, rows = sum(counts), len(counts)
    tensors = [randn(n, h, 16, seed=h).float().to(DEVICE) for h in (4, 2)]
    slots = torch.arange(rows).repeat_interleave(torch.tensor(counts)).to(DEVICE)
    positions = torch.cat([torch.arange(c) for c in counts]).to(DEVICE)
    offsets = torch.tensor([0, *counts]).cumsum(0).to(DEVICE)
    real, out, caches = slots != 1, [], []
    for at in (slots, slots.where(real, -1)):
        q, k = (x.masked_fill((at < 0)[:, None, None], torch.nan) for x in tensors)
        caches.append(new_slots(rows, TOKENS, 2, 16, torch.float32, DEVICE))
        out.append(cached_attention(q, k, k, *caches[-1], at, positions, offsets, backend=backend))
    assert torch.equal(out[0][real], out[1][real]) and not out[1][~real].any()
    for whole, part in zip(*caches, strict=True):
        assert not part[1].any() and torch.equal(part[[0, 2, 3]], whole[[0, 2, 3]])


def call(**changes):
    q, k = torch.zeros(3, 4, 16), torch.zeros(3, 2, 16)
    keys, values = new_slots(2, 100, 2, 16, torch.float32)
    at = torch.arange(3)
    named = dict(q=q, k=k, v=k, keys=keys, values=values, slots=at * 0, positions=at, cu_seqlens=at[:2] * 3)
    return cached_attention(**named | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": torch.zeros(3, 3, 16), "v": torch.zeros(3, 3, 16)}, "multiple of those of k, got 4 and 3"),
        ({"keys": torch.zeros(2, 2, 2, 16, 32)}, r"keys must have shape \(any, 2, any, 16, 64\)"),
        ({"values": torch.zeros(2, 2, 100, 16)}, r"values must have shape \(2, 2, 128, 16\)"),
        ({"values": torch.zeros(2, 2, 16, 128).mT}, "must be contiguous, as new_slots makes them"),
        ({"slots": torch.zeros(3, dtype=torch.int32)}, "slots must be int64, got int32"),
        ({"positions": torch.arange(4)}, r"positions must have shape \(3\), got \(4,\)"),
        ({"q": torch.zeros(3, 4, 16, requires_grad=True)}, "cached_attention has no gradient"),
    ],
)
def test_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        call(**changes)
    assert call().shape == (3, 4, 16)


@pytest.mark.skipif(CUDA, reason="the same schema on every device")
def test_custom_op_passes_opcheck():
    from lamer_kernels.layers.cached_attention.op import cached_attention_op

    q, k, at = torch.randn(3, 4, 16), torch.randn(3, 2, 16), torch.arange(3)
    cache = new_slots(2, 100, 2, 16, torch.float32)
    args = (q, k, k, *cache, at * 0, at, torch.tensor([0, 3]), 0.25, "cpu")
    torch.library.opcheck(cached_attention_op, args, test_utils=("test_schema", "test_faketensor"))
