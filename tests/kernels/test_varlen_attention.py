"""varlen_attention against its definition, and Hugging Face models packed against one by one."""

import pytest
import torch

from lamer_kernels import register_attention, varlen_attention
from lamer_kernels.attention import varlen_attention_ref

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


def test_no_token_sees_another_sequence():
    qkv, cu = make_inputs((5, 6))
    out = varlen_attention(*qkv, cu, 6)
    changed = [x.detach().clone() for x in qkv]
    for x in changed:
        x[:5] = torch.nan
    assert torch.equal(varlen_attention(*changed, cu, 6)[5:], out[5:])


def test_no_tokens():
    qkv, cu = make_inputs(())
    assert varlen_attention(*qkv, cu, 0).shape == (0, 4, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(19, 2, 8).double()}, r"k must have shape \(20, any, 8\), got \(19, 2, 8\)"),
        ({"v": torch.zeros(20, 2, 8)}, "v must be float64, got float32"),
        ({"q": torch.zeros(20, 3, 8).double()}, "heads of q must be a multiple of those of k, got 3 and 2"),
        ({"cu_seqlens": torch.tensor([0, 20])}, "cu_seqlens must be int32, got int64"),
        ({"cu_seqlens": torch.tensor([0, 19]).int(), "validate": True}, "cu_seqlens must run from 0 to 20"),
        ({"max_seqlen": 11, "validate": True}, "max_seqlen must be >= the longest sequence, 12, got 11"),
        ({"implementation": "flash"}, "implementation must be one of"),
    ],
)
def test_bad_input(change, message):
    (q, k, v), cu = make_inputs(LENGTHS["ragged"])
    with pytest.raises(ValueError, match=message):
        varlen_attention(**(dict(q=q, k=k, v=v, cu_seqlens=cu, max_seqlen=12) | change))


def tiny_model(kind):
    transformers = pytest.importorskip("transformers")
    sizes = dict(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, max_position_embeddings=128,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    config = {
        "qwen3": transformers.Qwen3Config,
        "qwen2": transformers.Qwen2Config,
        "llama": transformers.LlamaConfig,
    }
    torch.manual_seed(0)
    more = {"head_dim": 8} if kind == "qwen3" else {}
    model = transformers.AutoModelForCausalLM.from_config(config[kind](**sizes, **more), dtype=torch.float64)
    return model.eval()


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_hugging_face_models_run_packed_exactly(kind):
    model, name = tiny_model(kind), register_attention()
    lengths = (6, 1, 13)
    ids = torch.randint(50, (20,), generator=torch.Generator().manual_seed(0))
    cu = torch.tensor([0, *lengths]).cumsum(0).int()
    positions = torch.cat([torch.arange(n) for n in lengths])

    model.set_attn_implementation("eager")
    alone = torch.cat([model(input_ids=part[None]).logits[0] for part in ids.split(lengths)])
    alone_grads = torch.autograd.grad(alone.square().sum(), list(model.parameters()))
    model.set_attn_implementation(name)
    packed = model(
        input_ids=ids[None], position_ids=positions[None], cu_seqlens=cu, max_seqlen=13, use_cache=False
    ).logits[0]
    packed_grads = torch.autograd.grad(packed.square().sum(), list(model.parameters()))
    torch.testing.assert_close(packed, alone)
    for x, y in zip(packed_grads, alone_grads, strict=True):
        # the models' norms, rotary angles and eager softmax compute in float32 whatever the dtype
        torch.testing.assert_close(x, y, rtol=1e-4, atol=2e-5)

    rows = model(input_ids=ids.view(2, 10), use_cache=False).logits  # without cu_seqlens: a row is a sequence
    model.set_attn_implementation("eager")
    torch.testing.assert_close(rows, model(input_ids=ids.view(2, 10)).logits)


def test_hugging_face_refuses_what_it_would_get_wrong():
    model = tiny_model("llama")
    model.set_attn_implementation(register_attention())
    ids = torch.zeros(2, 5, dtype=torch.int64)
    mask = torch.ones(2, 5, dtype=torch.int64)
    model(input_ids=ids, attention_mask=mask, use_cache=False)
    mask[1, 3:] = 0
    with pytest.raises(ValueError, match="takes cu_seqlens, got a padding mask"):
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    with pytest.raises(ValueError, match="cu_seqlens needs one packed row and max_seqlen, got 2 rows"):
        model(input_ids=ids, cu_seqlens=torch.tensor([0, 10]).int(), max_seqlen=5, use_cache=False)
    with pytest.raises(ValueError, match="no key/value cache: 1 queries, 6 keys"):
        cache = model(input_ids=ids, use_cache=True).past_key_values
        model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
