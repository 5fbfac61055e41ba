"""varlen_attention against its definition, in every layout, dtype and surrounding that a caller may have."""

import pytest
import torch

from lamer_kernels import varlen_attention
from lamer_kernels.layers.attention import sdpa, varlen_attention_ref

OPS = torch.ops.lamer_kernels
LENGTHS = {"ragged": (1, 0, 7, 12), "one": (20,), "ones": (1,) * 5}


def make_inputs(lengths, heads=4, kv_heads=2, dim=8, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    total = sum(lengths)
    q, k, v = (torch.randn(total, n, dim, generator=g) for n in (heads, kv_heads, kv_heads))
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    return [x.to(dtype).requires_grad_() for x in (q, k, v)], cu_seqlens


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_matches_reference(lengths, causal, scale):
    qkv, cu = make_inputs(LENGTHS[lengths])
    out = varlen_attention(*qkv, cu, max(LENGTHS[lengths]), causal, scale=scale)
    ref = varlen_attention_ref(*qkv, cu, causal=causal, scale=scale)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(out, ref)
    for x, y in zip(*(torch.autograd.grad(o, qkv, upstream) for o in (out, ref)), strict=True):
        torch.testing.assert_close(x, y)


def test_gradcheck():
    qkv, cu = make_inputs((3, 1, 4), dim=3)
    assert torch.autograd.gradcheck(lambda q, k, v: varlen_attention(q, k, v, cu, 4), qkv)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_error_ratio(dtype, rounding):
    qkv, cu = make_inputs((70, 130, 1), heads=6, kv_heads=2, dim=32)
    low = [x.detach().to(dtype) for x in qkv]
    truth = varlen_attention_ref(*(x.double() for x in low), cu)
    ours, plain = (f(*low, cu, *rest) for f, rest in ((varlen_attention, (130,)), (varlen_attention_ref, ())))
    assert (ours - truth).norm() <= 2 * (plain - truth).norm() + rounding * truth.norm()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2e-6), (torch.bfloat16, 6e-3)])
def test_blocked_forward_and_gradients(causal, dtype, rounding):
    pytest.importorskip("numba")
    qkv, cu = make_inputs((70, 300, 0, 1, 128), heads=6, kv_heads=2, dim=16, dtype=dtype)
    truth = [x.detach().double().requires_grad_() for x in qkv]
    upstream = torch.randn(499, 6, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    out = varlen_attention(*qkv, cu, 300, causal, implementation="blocked")
    ref = varlen_attention_ref(*truth, cu, causal=causal)
    ours = [out, *torch.autograd.grad(out, qkv, upstream)]
    exact = [ref, *torch.autograd.grad(ref, truth, upstream.double())]
    for x, y in zip(ours, exact, strict=True):
        assert x.dtype == dtype
        assert (x.double() - y).norm() <= rounding * y.norm()


def blocked_with_gradients(qkv, cu, max_seqlen):
    out = varlen_attention(*qkv, cu, max_seqlen, implementation="blocked")
    return [out, *torch.autograd.grad(out, qkv, torch.ones_like(out))]


@pytest.mark.parametrize("heads", [(6, 2), (72, 1)])
@pytest.mark.parametrize("dim", [7, 20, 64])
def test_blocked_sizes_that_fill_no_tile(heads, dim):
    pytest.importorskip("numba")
    qkv, cu = make_inputs((3, 41), *heads, dim=dim, dtype=torch.float32)
    truth = [x.detach().double().requires_grad_() for x in qkv]
    ref = varlen_attention_ref(*truth, cu)
    exact = [ref, *torch.autograd.grad(ref, truth, torch.ones_like(ref))]
    for x, y in zip(blocked_with_gradients(qkv, cu, 41), exact, strict=True):
        torch.testing.assert_close(x, y.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocked_bits_depend_on_the_sequence_alone(dtype):
    """Neither on threads nor on what lies beside it."""
    pytest.importorskip("numba")
    qkv, cu = make_inputs((70, 600, 33), dtype=dtype, dim=16)
    together = blocked_with_gradients(qkv, cu, 600)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for x, y in zip(blocked_with_gradients(qkv, cu, 600), together, strict=True):
            assert torch.equal(x, y)
    finally:
        torch.set_num_threads(threads)
    alone = [x.detach()[:70].requires_grad_() for x in qkv]
    for x, y in zip(blocked_with_gradients(alone, cu[:2], 70), together, strict=True):
        assert torch.equal(x, y[:70])


def test_no_token_sees_another_sequence():
    qkv, cu = make_inputs((5, 6))
    out = varlen_attention(*qkv, cu, 6)
    changed = [x.detach().clone() for x in qkv]
    for x in changed:
        x[:5] = torch.nan
    assert torch.equal(varlen_attention(*changed, cu, 6)[5:], out[5:])


@pytest.mark.parametrize("lengths", [(), (0, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tokens(lengths, dtype):
    qkv, cu = make_inputs(lengths, dtype=dtype)
    out = varlen_attention(*qkv, cu, 0)
    assert out.shape == (0, 4, 8)
    assert [x.shape for x in torch.autograd.grad(out.sum(), qkv)] == [x.shape for x in qkv]


WAYS = {  # dtype and implementation: all that a CPU has
    "blocked-float32": (torch.float32, "blocked"),
    "blocked-bfloat16": (torch.bfloat16, "blocked"),
    "sdpa-float16": (torch.float16, "sdpa"),
    "sdpa-float32": (torch.float32, "sdpa"),
    "sdpa-float64": (torch.float64, "sdpa"),
}


@pytest.fixture(params=WAYS)
def way(request):
    dtype, implementation = WAYS[request.param]
    if implementation == "blocked":
        pytest.importorskip("numba")
    return dtype, implementation


def make_case(way, lengths=(70, 0, 1, 33), **sizes):
    qkv, cu = make_inputs(lengths, dtype=way[0], **sizes)
    upstream = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    return qkv, cu, upstream.to(way[0])


def run(way, qkv, cu, upstream, max_seqlen=70, causal=True):
    """out, dq, dk, dv"""
    out = varlen_attention(*qkv, cu, max_seqlen, causal, implementation=way[1])
    return [out.detach(), *torch.autograd.grad(out, qkv, upstream)]


def assert_same(ours, expected):
    for x, y in zip(ours, expected, strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)


# rounding of a result in units of its dtype; sums of products over 70 keys
ROUNDING = {torch.float64: 1e-14, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)], ids=str)
def test_every_way_forward_and_gradients(way, heads, causal, monkeypatch):
    monkeypatch.setattr(sdpa, "MAX_SCORES", 1 << 12)  # several blocks a sequence
    qkv, cu, upstream = make_case(way, heads=heads[0], kv_heads=heads[1])
    truth = [x.detach().double().requires_grad_() for x in qkv]
    ref = varlen_attention_ref(*truth, cu, causal=causal)
    exact = [ref, *torch.autograd.grad(ref, truth, upstream.double())]
    for x, y in zip(run(way, qkv, cu, upstream, causal=causal), exact, strict=True):
        assert x.dtype == way[0]
        assert (x.double() - y).norm() <= ROUNDING[way[0]] * y.norm()


LAYOUTS = {
    "heads first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "tokens last": lambda x: x.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    "every other": lambda x: torch.stack((x, x.new_zeros(()).expand_as(x)), -1).flatten(-2)[..., ::2],
    "slice of a longer row": lambda x: torch.cat((x, x), 1)[:, : x.shape[1]],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(way, layout):
    qkv, cu, upstream = make_case(way)
    expected = run(way, qkv, cu, upstream)
    laid = [LAYOUTS[layout](x.detach()).requires_grad_() for x in qkv]
    assert not all(x.is_contiguous() for x in laid)
    assert_same(run(way, laid, cu, LAYOUTS[layout](upstream)), expected)


def test_expanded_inputs(way):
    (q, k, v), cu, upstream = make_case(way)
    k, v = (x.detach()[:, :1].expand(-1, 2, -1).requires_grad_() for x in (k, v))
    copies = [x.detach().clone().requires_grad_() for x in (k, v)]
    assert_same(run(way, (q, k, v), cu, upstream), run(way, (q, *copies), cu, upstream))
    flat = upstream[:1, :1, :1].expand_as(upstream)  # what out.sum() hands down
    assert_same(run(way, (q, k, v), cu, flat), run(way, (q, k, v), cu, flat.clone()))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_offsets_of_either_integer_and_any_stride(way, dtype):
    qkv, cu, upstream = make_case(way)
    strided = torch.full((2 * len(cu),), -7, dtype=dtype)[::2]
    strided.copy_(cu)
    assert_same(run(way, qkv, strided, upstream), run(way, qkv, cu, upstream))


@pytest.mark.parametrize("change", ["float64", "bfloat16", "device"])
def test_process_wide_defaults_change_nothing(way, change):
    qkv, cu, upstream = make_case(way)
    expected = run(way, qkv, cu, upstream)
    try:
        if change == "device":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, change))
        got = run(way, qkv, cu, upstream)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert_same(got, expected)


@pytest.mark.parametrize("where", ["both", "forward", "backward"])
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast_rounds_nothing(way, where, autocast):
    qkv, cu, upstream = make_case(way)
    expected = run(way, qkv, cu, upstream)
    with torch.autocast("cpu", autocast, enabled=where != "backward"):
        out = varlen_attention(*qkv, cu, 70, implementation=way[1])
    with torch.autocast("cpu", autocast, enabled=where != "forward"):
        grads = torch.autograd.grad(out, qkv, upstream)
    assert_same([out.detach(), *grads], expected)


def test_autocast_leaves_the_reference_exact():
    qkv, cu = make_inputs((5, 6), dtype=torch.float32)
    expected = varlen_attention(*qkv, cu, 6, implementation="reference")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(varlen_attention(*qkv, cu, 6, implementation="reference"), expected)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 4, 8], "cu_seqlens must run from 0 to 10, got 0 to 8"),
        ([0, 4, 12], "cu_seqlens must run from 0 to 10, got 0 to 12"),
        ([2, 4, 10], "cu_seqlens must run from 0 to 10, got 2 to 10"),
        ([0, 6, 4, 10], r"cu_seqlens must not fall, got \[0, 6, 4, 10\]"),
        ([0], "cu_seqlens must run from 0 to 10, got 0 to 0"),
    ],
)
@pytest.mark.parametrize("implementation", ["auto", "sdpa", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bad_offsets_are_named(offsets, message, implementation, dtype):
    qkv, _ = make_inputs((10,), dtype=dtype)
    with pytest.raises(ValueError, match=message):
        varlen_attention(*qkv, torch.tensor(offsets), 10, implementation=implementation)


@pytest.mark.parametrize("layout", [None, "heads first"])
def test_opcheck(way, layout):
    qkv, cu, upstream = make_case(way, lengths=(5, 0, 3))
    if layout:
        qkv = [LAYOUTS[layout](x.detach()).requires_grad_() for x in qkv]
    options = (5, True, 0.3, way[1])
    torch.library.opcheck(OPS.varlen_attention.default, (*qkv, cu, *options))
    out, lse = OPS.varlen_attention(*(x.detach() for x in qkv), cu, *options)
    detached = [x.detach() for x in qkv]
    torch.library.opcheck(
        OPS.varlen_attention_backward.default, (upstream, *detached, out, lse, cu, *options)
    )


def test_compiles_as_one_graph_for_all_lengths(way):
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(varlen_attention, fullgraph=True, dynamic=True, backend=count)
    for lengths in ((9, 4, 2), (5, 30), (1, 2, 3)):
        qkv, cu, upstream = make_case(way, lengths)
        expected = run(way, qkv, cu, upstream, max(lengths))
        out = compiled(*qkv, cu, max(lengths), implementation=way[1])
        assert_same([out.detach(), *torch.autograd.grad(out, qkv, upstream)], expected)
    assert len(graphs) <= 2  # the number of sequences, 3 then 2, becomes a symbol


def test_compiles_through_aot_with_its_own_choice():
    qkv, cu, upstream = make_case((torch.float32, "auto"))
    compiled = torch.compile(varlen_attention, fullgraph=True, backend="aot_eager")
    out = compiled(*qkv, cu, 70)
    expected = run((torch.float32, "auto"), qkv, cu, upstream)
    assert_same([out.detach(), *torch.autograd.grad(out, qkv, upstream)], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(19, 2, 8).double()}, r"k must have shape \(20, any, 8\), got \(19, 2, 8\)"),
        ({"v": torch.zeros(20, 2, 8)}, "v must be float64, got float32"),
        ({"q": torch.zeros(20, 3, 8).double()}, "heads of q must be a multiple of those of k, got 3 and 2"),
        ({"q": torch.zeros(20, 4, 0).double()}, r"k must have shape \(20, any, 0\)"),
        ({"cu_seqlens": torch.tensor([0.0, 20.0])}, "cu_seqlens must be int32 or int64, got float32"),
        ({"cu_seqlens": torch.tensor([], dtype=torch.int32)}, "must run from 0 to 20, got no entry"),
        ({"max_seqlen": 11}, "max_seqlen must be >= the longest sequence, 12, got 11"),
        ({"implementation": "flash"}, "implementation must be one of"),
        (
            {"implementation": "blocked"},
            "needs numba and float32 or bfloat16 CPU tensors, got float64 on cpu",
        ),
        ({"implementation": "torch"}, "'torch' needs float16 or bfloat16 CUDA tensors, got float64 on cpu"),
    ],
)
def test_bad_input(change, message):
    (q, k, v), cu = make_inputs(LENGTHS["ragged"])
    with pytest.raises(ValueError, match=message):
        varlen_attention(**(dict(q=q, k=k, v=v, cu_seqlens=cu, max_seqlen=12) | change))
