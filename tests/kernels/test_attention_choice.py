"""What varlen_attention takes on a GPU: stand-in capabilities, and packages that compute the reference."""

import warnings

import pytest
import torch

from lamer_kernels import varlen_attention
from lamer_kernels.layers.attention import vendors
from lamer_kernels.layers.attention.choice import check_can, choose

CUDA, HALF = torch.device("cuda", 0), torch.bfloat16

STAND_IN = """
from lamer_kernels.layers.attention import varlen_attention_ref

calls = []

def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, {lengths}softmax_scale, causal{more}):
    calls.append(locals())
    assert cu_seqlens_q.dtype.itemsize == 4 and cu_seqlens_q.is_contiguous() and q.stride(-1) == 1
    out = varlen_attention_ref(q, k, v, cu_seqlens_q, causal=causal, scale=softmax_scale)
    return {result}
"""
LENGTHS = "max_seqlen_q, max_seqlen_k, "
PACKAGES = {  # files of a package, by the name of its implementation
    "flash_attn": {
        "flash_attn/__init__.py": dict(lengths=LENGTHS, more=", deterministic=False", result="out")
    },
    "flash_attn_3": {
        "flash_attn_interface.py": dict(lengths=LENGTHS, more=", deterministic=False", result="out")
    },
    "flash_attn_4": {"flash_attn/cute/__init__.py": dict(lengths="", more="", result="(out, None)")},
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(name, ...): those packages and no others can be imported; source replaces what they hold."""
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))

    def install(*names, source=None):
        for name in names:
            for path, how in PACKAGES[name].items():
                file = tmp_path / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(source or STAND_IN.format(**how))

    def forget():
        for name in [m for m in sys.modules if m.split(".")[0] in ("flash_attn", "flash_attn_interface")]:
            del sys.modules[name]
        vendors.load.cache_clear()

    forget()
    yield install
    forget()


def on_gpu(monkeypatch, capability, hip=None):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)


ALL = ("flash_attn", "flash_attn_3", "flash_attn_4")


@pytest.mark.parametrize(
    ("capability", "installed", "expected"),
    [
        ((7, 0), ALL, "sdpa"),
        ((7, 5), ALL, "sdpa"),
        ((8, 0), ALL, "flash_attn"),
        ((8, 0), ("flash_attn_4",), "torch"),  # vLLM's wheels bring it to every card
        ((8, 9), (), "torch"),
        ((9, 0), ALL, "flash_attn_3"),
        ((9, 0), ("flash_attn", "flash_attn_4"), "flash_attn"),
        ((9, 0), ("flash_attn_4",), "torch"),
        ((10, 0), ALL, "flash_attn_4"),
        ((10, 3), ("flash_attn", "flash_attn_3"), "torch"),
        ((11, 0), ALL, "flash_attn_4"),
        ((12, 0), ALL, "torch"),
    ],
)
def test_by_compute_capability(capability, installed, expected, install, monkeypatch):
    install(*installed)
    on_gpu(monkeypatch, capability)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (torch.bfloat16, torch.float16):
            assert choose(CUDA, dtype, 64, deterministic=False) == expected
        for dtype in (torch.float32, torch.float64):
            assert choose(CUDA, dtype, 64, deterministic=False) == "sdpa"


@pytest.mark.parametrize(
    ("head_dim", "capability", "expected"),
    [
        (256, (9, 0), "flash_attn_3"),
        (264, (9, 0), "sdpa"),
        (36, (8, 0), "flex"),
        (36, (12, 0), "flex"),
        (36, (7, 5), "sdpa"),
        (12, (8, 0), "sdpa"),
        (132, (9, 0), "sdpa"),
        (192, (10, 0), "torch"),
    ],
)
def test_by_head_size(head_dim, capability, expected, install, monkeypatch):
    install(*ALL)
    on_gpu(monkeypatch, capability)
    assert choose(CUDA, HALF, head_dim, deterministic=False) == expected


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (10, 0), (12, 0)])
def test_without_varlen_attention_of_torch(capability, install, monkeypatch):
    """As before torch 2.10."""
    install()
    monkeypatch.setitem(vendors.FUNCTIONS, "torch", ("torch.nn.attention.absent", "varlen_attn"))
    on_gpu(monkeypatch, capability)
    assert choose(CUDA, HALF, 64, deterministic=False) == "flex"
    assert choose(CUDA, HALF, 64, deterministic=True) == "sdpa"
    assert choose(CUDA, HALF, 64, deterministic=False, compiling=True) == "sdpa"
    assert choose(CUDA, torch.float32, 64, deterministic=False) == "sdpa"
    with pytest.raises(ValueError, match="'flex' has no deterministic backward pass"):
        check_can("flex", CUDA, HALF, deterministic=True)


def test_rocm_reports_capabilities_of_its_own(install, monkeypatch):
    install("flash_attn_3", "flash_attn_4")
    on_gpu(monkeypatch, (9, 4), hip="7.0")
    assert choose(CUDA, HALF, 64, deterministic=False) == "torch"


def test_a_cpu_is_not_asked_for_its_capability():
    assert choose(torch.device("cpu"), torch.float64, 64, deterministic=True) == "sdpa"
    assert choose(torch.device("meta"), torch.float32, 64, deterministic=False) == "sdpa"


@pytest.mark.parametrize(
    "source",
    [
        "raise ImportError('libc10.so: undefined symbol: _ZN3c105ErrorC2')",
        "raise OSError('libcudart.so.12: cannot open shared object file')",
        "raise RuntimeError('no kernel image')",
        "flash_attn_func = None",
    ],
)
def test_what_does_not_import_is_passed_over_and_said(source, install, monkeypatch):
    install("flash_attn_3", source=source)
    on_gpu(monkeypatch, (9, 0))
    with pytest.warns(UserWarning, match="passes over flash_attn_interface, which does not import: "):
        assert choose(CUDA, HALF, 64, deterministic=False) == "torch"
    with pytest.raises(
        ValueError, match=r"needs flash_attn_interface.flash_attn_varlen_func, which does not"
    ):
        check_can("flash_attn_3", CUDA, HALF, deterministic=False)


def test_a_package_that_breaks_what_lies_in_it(install, monkeypatch):
    install("flash_attn_4")
    install("flash_attn", source="raise ImportError('undefined symbol: _ZN3c105ErrorC2')")
    on_gpu(monkeypatch, (10, 0))
    with pytest.warns(
        UserWarning, match=r"passes over flash_attn.cute, which does not import: undefined symbol"
    ):
        assert choose(CUDA, HALF, 64, deterministic=False) == "torch"


def test_deterministic_passes_over_what_cannot_be(install, monkeypatch):
    install(*ALL)
    on_gpu(monkeypatch, (10, 0))
    assert choose(CUDA, HALF, 64, deterministic=True) == "torch"
    with pytest.raises(ValueError, match="'flash_attn_4' has no deterministic backward pass"):
        check_can("flash_attn_4", CUDA, HALF, deterministic=True)
    on_gpu(monkeypatch, (9, 0))
    assert choose(CUDA, HALF, 64, deterministic=True) == "flash_attn_3"


def test_under_compile_torchs_own(install, monkeypatch):
    install(*ALL)
    on_gpu(monkeypatch, (9, 0))
    assert choose(CUDA, HALF, 64, deterministic=False, compiling=True) == "torch"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("deterministic", [False, True])
def test_packages_are_called_as_they_are_documented(name, deterministic, install):
    from importlib import import_module

    install(name)
    g = torch.Generator().manual_seed(0)
    # [11, n, 8] with a strided last axis
    q, k, v = (torch.randn(8, n, 11, generator=g).permute(2, 1, 0).requires_grad_() for n in (4, 2, 2))
    cu = torch.tensor([0, 3, 11])
    out = vendors.attention(name, q, k, v, cu, 8, True, 0.3, deterministic)
    expected = varlen_attention(q, k, v, cu, 8, scale=0.3, implementation="reference")
    torch.testing.assert_close(out, expected)
    upstream = torch.ones(()).expand_as(out)
    for x, y in zip(*(torch.autograd.grad(o, (q, k, v), upstream) for o in (out, expected)), strict=True):
        torch.testing.assert_close(x, y)
    (call,) = import_module(vendors.FUNCTIONS[name][0]).calls
    assert call.get("max_seqlen_q", 8) == 8
    assert call.get("deterministic", False) == (deterministic and name != "flash_attn_4")


def gpu_attention(q, k, v, cu):
    """What varlen_attention does with bfloat16 CUDA tensors."""
    compiling = torch.compiler.is_compiling()
    name = choose(CUDA, q.dtype, q.shape[2], deterministic=False, compiling=compiling)
    return vendors.attention(name, q, k, v, cu, 8, True, 0.1, False)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("compiled", [False, True])
def test_torchs_own_is_traced(heads, compiled, monkeypatch):
    on_gpu(monkeypatch, (8, 0))
    sizes = ((11, n, 64) for n in (heads[0], heads[1], heads[1]))
    q, k, v = (torch.zeros(size, device="meta", dtype=HALF, requires_grad=True) for size in sizes)
    cu = torch.zeros(3, device="meta", dtype=torch.int64)
    function = (
        torch.compile(gpu_attention, fullgraph=True, backend="aot_eager") if compiled else gpu_attention
    )
    out = function(q, k, v, cu)
    grads = torch.autograd.grad(out.sum(), (q, k, v))
    assert [x.shape for x in (out, *grads)] == [x.shape for x in (q, q, k, v)]
