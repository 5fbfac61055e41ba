"""varlen_attention on a GPU: every implementation that is there against the definition, and equal bits."""

import pytest
import torch

from lamer_kernels import varlen_attention
from lamer_kernels.layers.attention import varlen_attention_ref
from lamer_kernels.layers.attention.choice import NAMES
from lamer_kernels.layers.attention.vendors import VENDORS, load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LENGTHS = (1, 700, 0, 65, 1300)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


def make_inputs(dtype, heads=8, kv_heads=2, dim=64):
    g = torch.Generator().manual_seed(0)
    sizes = [(sum(LENGTHS), n, dim) for n in (heads, kv_heads, kv_heads, heads)]
    q, k, v, upstream = (torch.randn(size, generator=g).to("cuda", dtype) for size in sizes)
    cu = torch.tensor([0, *LENGTHS]).cumsum(0).to("cuda")
    return [x.requires_grad_() for x in (q, k, v)], cu, upstream


def run(qkv, cu, upstream, **options):
    out = varlen_attention(*qkv, cu, max(LENGTHS), **options)
    return [out.detach(), *torch.autograd.grad(out, qkv, upstream)]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", ["auto", *NAMES])
def test_matches_the_definition(name, dtype, causal):
    if name == "blocked" or (name in VENDORS and (dtype is torch.float32 or load(name) is None)):
        pytest.skip("not here")
    qkv, cu, upstream = make_inputs(dtype)
    truth = [x.detach().double().requires_grad_() for x in qkv]
    ref = varlen_attention_ref(*truth, cu, causal=causal)
    exact = [ref.detach(), *torch.autograd.grad(ref, truth, upstream.double())]
    for x, y in zip(run(qkv, cu, upstream, causal=causal, implementation=name), exact, strict=True):
        assert x.dtype == dtype
        assert (x.double() - y).norm() <= ROUNDING[dtype] * y.norm()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_any_strides(dtype):
    qkv, cu, _ = make_inputs(dtype)
    flat = torch.ones((), device="cuda", dtype=dtype).expand_as(qkv[0])
    laid = [x.detach().permute(1, 2, 0).contiguous().permute(2, 0, 1).requires_grad_() for x in qkv]
    for x, y in zip(run(laid, cu, flat), run(qkv, cu, flat), strict=True):
        assert (x.float() - y.float()).norm() <= ROUNDING[dtype] * y.float().norm()


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_deterministic_gives_equal_bits(dtype, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    qkv, cu, upstream = make_inputs(dtype)
    torch.use_deterministic_algorithms(True)
    try:
        first, *others = (run(qkv, cu, upstream) for _ in range(5))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(x, y) for other in others for x, y in zip(first, other, strict=True))


def test_compiles_as_one_graph():
    qkv, cu, upstream = make_inputs(torch.bfloat16)
    expected = run(qkv, cu, upstream, implementation="torch")
    compiled = torch.compile(varlen_attention, fullgraph=True, backend="aot_eager")
    out = compiled(*qkv, cu, max(LENGTHS))
    for x, y in zip([out, *torch.autograd.grad(out, qkv, upstream)], expected, strict=True):
        torch.testing.assert_close(x, y, rtol=2e-2, atol=2e-2)
