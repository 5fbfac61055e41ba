"""What optional packages of attention really take: recorded signatures, and the packages where they are here.

xformers 0.0.35 imports and makes its masks on a CPU: `pip install --no-deps xformers==0.0.35`.
"""

import sys
from inspect import signature
from types import ModuleType, SimpleNamespace

import pytest
import torch

from lamer_kernels.layers.attention import choice, varlen_attention_ref, vendors

# Parameters of flash_attn_varlen_func: Dao-AILab/flash-attention at 0053002 (2), 01afd16 (3) and 004b1a2 (4).
OFFSETS = "q, k, v, cu_seqlens_q, cu_seqlens_k"
SIGNATURES = {
    "flash_attn": OFFSETS + ", max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False, "
    "window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False, "
    "block_table=None",
    "flash_attn_3": OFFSETS + ", max_seqlen_q, max_seqlen_k, seqused_q=None, seqused_k=None, "
    "softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None, v_descale=None, "
    "window_size=(-1, -1), attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, "
    "sm_margin=0, return_attn_probs=False",
    "flash_attn_4": OFFSETS.replace("_q", "_q=None").replace("_k", "_k=None")
    + ", max_seqlen_q=None, max_seqlen_k=None, seqused_q=None, seqused_k=None, page_table=None, "
    "softmax_scale=None, causal=False, window_size=(None, None), learnable_sink=None, softcap=0.0, "
    "num_splits=1, pack_gqa=None, deterministic=False, score_mod=None, mask_mod=None, "
    "block_sparse_tensors=None, cu_total_m_blocks=None, cu_total_n_blocks=None, aux_tensors=None, "
    "return_lse=False",
}
# xformers 0.0.35 by its own tables: forward and backward operators with masks of packed sequences
MASKS = ("BlockDiagonalMask", "BlockDiagonalCausalMask")
XFORMERS = {  # name: (least and largest compute capability, largest head size, its masks)
    "cutlass_blackwell": ((10, 0), None, 128, MASKS),
    "flash": ((8, 0), None, 256, MASKS),
    "flash3": ((8, 0), (9, 0), 256, MASKS),
    "triton_splitk": ((8, 0), None, 512, ()),  # paged keys alone, and no backward pass
}
HALF = {torch.float16, torch.bfloat16}


@pytest.fixture(autouse=True)
def forget():
    load = vendors.load  # which a test may replace
    yield
    load.cache_clear()


def packed():
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(11, heads, 8, generator=g) for heads in (4, 2, 2))
    return q, k, v, torch.tensor([0, 3, 11])


def module(monkeypatch, name, **content):
    found = ModuleType(name)
    vars(found).update(content)
    found.__spec__ = SimpleNamespace(origin=__file__)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, name, found)
    return found


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("name", SIGNATURES)
def test_flash_attention_is_called_by_keywords_that_it_has(name, deterministic, monkeypatch):
    calls = []

    def compute(given):
        calls.append(given)
        out = varlen_attention_ref(
            *(given[x] for x in "qkv"), given["cu_seqlens_q"], causal=given["causal"],
            scale=given["softmax_scale"],
        )  # fmt: skip
        return (out, None) if name == "flash_attn_4" else out

    space = {"compute": compute}
    exec(f"def function({SIGNATURES[name]}):\n    return compute(locals())", space)
    parameters = frozenset(signature(space["function"]).parameters)
    monkeypatch.setattr(vendors, "load", lambda _: vendors.Function(space["function"], parameters, True))
    q, k, v, cu = packed()
    out = vendors.attention(name, q, k, v, cu, 8, True, 0.3, deterministic)
    torch.testing.assert_close(out, varlen_attention_ref(q, k, v, cu, causal=True, scale=0.3))
    (call,) = calls
    assert call["cu_seqlens_k"].dtype == call["cu_seqlens_q"].dtype == torch.int32
    assert (call["max_seqlen_q"], call["max_seqlen_k"], call["deterministic"]) == (8, 8, deterministic)


@pytest.fixture
def xformers(monkeypatch):
    """A stand-in with the operators of 0.0.35 computing the reference; `cutlass` is one of earlier ones."""

    class BlockDiagonalMask:
        def __init__(self, lengths, causal=False):
            self.lengths, self.causal = lengths, causal

        @classmethod
        def from_seqlens(cls, q_seqlen, kv_seqlen=None, *, device=None):
            return cls(q_seqlen)

        def make_causal(self):
            return BlockDiagonalCausalMask(self.lengths, True)

    class BlockDiagonalCausalMask(BlockDiagonalMask):
        pass

    kinds = {x.__name__: x for x in (BlockDiagonalMask, BlockDiagonalCausalMask)}

    def operator(least, largest, max_k, masks):
        return SimpleNamespace(
            is_available=lambda: True,
            CUDA_MINIMUM_COMPUTE_CAPABILITY=least,
            CUDA_MAXIMUM_COMPUTE_CAPABILITY=largest,
            SUPPORTED_DTYPES=HALF,
            SUPPORTED_MAX_K=max_k,
            SUPPORTED_ATTN_BIAS_TYPES=tuple(kinds[name] for name in masks),
        )

    def memory_efficient_attention(
        query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None, output_dtype=None
    ):
        cu = torch.tensor([0, *attn_bias.lengths]).cumsum(0)
        return varlen_attention_ref(
            query[0], key[0], value[0], cu, causal=attn_bias.causal, scale=scale
        ).unsqueeze(0)

    operators = [operator(*row) for row in XFORMERS.values()]
    fmha = SimpleNamespace(
        attn_bias=SimpleNamespace(**kinds),
        memory_efficient_attention=memory_efficient_attention,
        ALL_FW_OPS=operators,
        ALL_BW_OPS=operators[:-1],
        cutlass=operator((5, 0), None, 65536, MASKS),
    )
    module(monkeypatch, "xformers").__path__ = []
    module(monkeypatch, "xformers.ops", fmha=fmha, memory_efficient_attention=memory_efficient_attention)
    monkeypatch.setattr(
        vendors, "_is_installed", lambda name: name in ("xformers.ops", "torch.nn.attention.varlen")
    )
    vendors.load.cache_clear()
    return fmha


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "expected"),
    [
        ((7, 5), torch.float16, 64, "sdpa"),
        ((8, 0), torch.float16, 64, "torch"),
        ((9, 0), torch.bfloat16, 64, "torch"),
        ((10, 0), torch.bfloat16, 128, "xformers"),
        ((10, 0), torch.bfloat16, 192, "torch"),
        ((12, 0), torch.bfloat16, 64, "torch"),
    ],
)
def test_xformers_where_it_has_operators(capability, dtype, head_dim, expected, xformers, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert choice.choose(torch.device("cuda", 0), dtype, head_dim, deterministic=False) == expected


def test_an_older_xformers_on_a_v100(xformers, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    for operators in (xformers.ALL_FW_OPS, xformers.ALL_BW_OPS):
        operators.append(xformers.cutlass)
    choose = choice.choose
    assert choose(torch.device("cuda", 0), torch.float16, 64, deterministic=False) == "xformers"
    assert choose(torch.device("cuda", 0), torch.bfloat16, 64, deterministic=False) == "sdpa"
    assert choose(torch.device("cuda", 0), torch.float16, 64, deterministic=True) == "sdpa"
    xformers.ALL_BW_OPS.clear()
    assert choose(torch.device("cuda", 0), torch.float16, 64, deterministic=False) == "sdpa"


@pytest.mark.parametrize("causal", [True, False])
def test_xformers_computes_attention(causal, xformers):
    q, k, v, cu = packed()
    out = vendors.attention("xformers", q, k, v, cu, 8, causal, 0.3, False)
    torch.testing.assert_close(out, varlen_attention_ref(q, k, v, cu, causal=causal, scale=0.3))


@pytest.mark.parametrize("causal", [True, False])
def test_the_real_xformers(causal, monkeypatch):
    """Its masks; a GPU's operators are asked by their tables, and what they compute comes from the mask."""
    fmha = pytest.importorskip("xformers.ops").fmha

    def compute(*args, **options):
        given = signature(real).bind(*args, **options).arguments
        q, k, v = (given[name][0] for name in ("query", "key", "value"))
        bias = given["attn_bias"].materialize((len(q), len(k)), dtype=torch.float32, device="cpu")
        weights = (torch.einsum("ihd,jhd->hij", q, k) * given["scale"] + bias).softmax(-1)
        return torch.einsum("hij,jhd->ihd", weights, v).unsqueeze(0)

    real = fmha.memory_efficient_attention
    monkeypatch.setattr(fmha, "memory_efficient_attention", compute)
    q, k, v, cu = packed()
    out = vendors.attention("xformers", q, k, v, cu, 8, causal, 0.3, False)
    torch.testing.assert_close(out, varlen_attention_ref(q, k, v, cu, causal=causal, scale=0.3))

    for operator in {*fmha.ALL_FW_OPS, *fmha.ALL_BW_OPS}:
        of_rocm = operator.__module__.endswith(".ck")
        monkeypatch.setattr(operator, "is_available", lambda of_rocm=of_rocm: not of_rocm)
    runs = {at: vendors.xformers_runs(at, torch.float16, 64) for at in ((7, 0), (8, 0), (9, 0), (10, 0))}
    assert runs == {(7, 0): False, (8, 0): True, (9, 0): True, (10, 0): True}
    assert not vendors.xformers_runs((10, 0), torch.float32, 64)
    assert not vendors.xformers_runs((10, 0), torch.float16, 264)
