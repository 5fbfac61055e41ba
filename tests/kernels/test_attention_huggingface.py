"""Hugging Face models over register_attention: packed as others pack, cached, under autocast, refused."""

import pytest
import torch

from lamer_kernels import register_attention

transformers = pytest.importorskip("transformers")

LENGTHS = (6, 1, 13)
IDS = torch.randint(50, (1, 20), generator=torch.Generator().manual_seed(0))
OFFSETS = torch.tensor([0, *LENGTHS]).cumsum(0).int()
POSITIONS = torch.cat([torch.arange(n) for n in LENGTHS])[None]
SIZES = dict(
    vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, max_position_embeddings=128,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip


def tiny_model(kind, dtype=torch.float64, **more):
    sizes = SIZES | more
    if kind in ("qwen2", "llama"):
        del sizes["head_dim"]
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[kind](**sizes)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def logits(model, implementation, ids=IDS, **arguments):
    model.set_attn_implementation(implementation)
    return model(input_ids=ids, **({"use_cache": False} | arguments)).logits


def one_by_one(model, implementation="eager"):
    return torch.cat([logits(model, implementation, part) for part in IDS.split(LENGTHS, dim=1)], dim=1)


CONVENTIONS = {
    "cu_seqlens": dict(cu_seqlens=OFFSETS, max_seqlen=13),
    "int64": dict(cu_seqlens=OFFSETS.long(), max_seqlen=13),
    "an empty mask": dict(cu_seqlens=OFFSETS, max_seqlen=13, attention_mask=torch.empty(1, 1, 0, 0)),
    "hugging face": dict(cu_seq_lens_q=OFFSETS, cu_seq_lens_k=OFFSETS, max_length_q=13, max_length_k=13),
    "two tensors": dict(
        cu_seq_lens_q=OFFSETS, cu_seq_lens_k=OFFSETS.clone(), max_length_q=torch.tensor(13), max_length_k=13
    ),
    "position_ids": {},
    "position_ids, a cache that is filled": dict(use_cache=True),
    "position_ids, all tokens attended": dict(attention_mask=torch.ones_like(IDS)),
}


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_models_run_packed_exactly(kind, convention):
    model, name = tiny_model(kind), register_attention()
    alone = one_by_one(model)
    alone_grads = torch.autograd.grad(alone.square().sum(), list(model.parameters()))
    packed = logits(model, name, position_ids=POSITIONS, **CONVENTIONS[convention])
    packed_grads = torch.autograd.grad(packed.square().sum(), list(model.parameters()))
    torch.testing.assert_close(packed, alone)
    for x, y in zip(packed_grads, alone_grads, strict=True):
        # the models' norms, rotary angles and eager softmax compute in float32 whatever the dtype
        torch.testing.assert_close(x, y, rtol=1e-4, atol=2e-5)


POSITION_IDS = {
    "plain": torch.arange(10).expand(2, 10),
    "one row for all": torch.arange(10)[None],
    "restarts in each row": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]]),
    "no position is 0": torch.tensor([[5, 6, 7, 8, 9, 3, 4, 5, 6, 7]]),
    "gaps": torch.tensor([[0, 1, 2, 7, 8, 9, 20, 21, 22, 23]]),
    "all equal": torch.zeros(1, 10, dtype=torch.int64),
}


@pytest.mark.parametrize("positions", POSITION_IDS)
def test_position_ids_mean_what_they_mean_to_sdpa(positions):
    model, name = tiny_model("llama"), register_attention()
    ids, given = IDS.view(2, 10), POSITION_IDS[positions]
    ours = logits(model, name, ids, position_ids=given)
    torch.testing.assert_close(ours, logits(model, "sdpa", ids, position_ids=given))


def test_a_row_without_positions_is_one_sequence():
    model, name = tiny_model("qwen3"), register_attention()
    ids = IDS.view(2, 10)
    torch.testing.assert_close(logits(model, name, ids), logits(model, "eager", ids))


@pytest.mark.parametrize("convention", ["cu_seqlens", "position_ids"])
def test_under_autocast_as_right_as_sdpa(convention):
    model, name = tiny_model("llama", dtype=torch.float32), register_attention()
    truth = one_by_one(tiny_model("llama"))
    with torch.autocast("cpu", torch.bfloat16):
        sdpa = one_by_one(model, "sdpa")
        ours = logits(model, name, position_ids=POSITIONS, **CONVENTIONS[convention])
        gradients = torch.autograd.grad(ours.float().square().sum(), list(model.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert (ours - truth).norm() <= 1.5 * (sdpa - truth).norm()


def generated(model, implementation, ids, **options):
    model.set_attn_implementation(implementation)
    options = {"max_new_tokens": 8, "do_sample": False, "output_logits": True} | options
    out = model.generate(ids, return_dict_in_generate=True, **options)
    return out.sequences, torch.stack(out.logits)


PADDING = torch.tensor([[1] * 10, [0, 0, 0] + [1] * 7])


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention_mask": PADDING},
        {"attention_mask": PADDING, "cache_implementation": "static", "disable_compile": True},
        {"num_beams": 2, "output_logits": False, "output_scores": True},
        {"use_cache": False},
    ],
    ids=["rows", "left padding", "static cache", "beams", "no cache"],
)
def test_the_same_model_generates(kind, options):
    model, name = tiny_model(kind), register_attention()
    ids = IDS.view(2, 10)
    if "num_beams" in options:
        first, second = (_beams(model, implementation, ids, options) for implementation in (name, "sdpa"))
    else:
        first, second = (
            generated(model, implementation, ids, **options) for implementation in (name, "sdpa")
        )
        torch.testing.assert_close(first[1], second[1])
    assert torch.equal(first[0], second[0])


def _beams(model, implementation, ids, options):
    model.set_attn_implementation(implementation)
    return model.generate(ids, max_new_tokens=8, do_sample=False, return_dict_in_generate=True, **options)[:1]


def test_a_prompt_in_parts_fills_the_cache():
    model, name = tiny_model("llama"), register_attention()
    whole = logits(model, "sdpa")
    cache, parts = None, []
    model.set_attn_implementation(name)
    for part in IDS.split((7, 5, 8), dim=1):
        out = model(input_ids=part, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


REFUSED = {
    "padding": (
        dict(attention_mask=torch.tensor([[1] * 17 + [0] * 3])),
        r"takes cu_seqlens or position_ids, got attention_mask \(1, 1, 20, 20\)",
    ),
    "an empty mask without offsets": (dict(attention_mask=torch.empty(1, 1, 0, 0)), "got attention_mask"),
    "own mask": (dict(attention_mask=torch.ones(1, 1, 20, 20, dtype=torch.bool)), "got attention_mask"),
    "other keys": (
        dict(cu_seq_lens_q=OFFSETS, cu_seq_lens_k=torch.tensor([0, 7, 20]).int(), max_length_q=13),
        r"equal cu_seq_lens_q and cu_seq_lens_k, got \[0, 6, 7, 20\] and \[0, 7, 20\]",
    ),
    "other keys of as many": (
        dict(cu_seq_lens_q=OFFSETS, cu_seq_lens_k=torch.tensor([0, 6, 8, 20]).int(), max_length_q=13),
        r"got \[0, 6, 7, 20\] and \[0, 6, 8, 20\]",
    ),
    "no keys": (dict(cu_seq_lens_q=OFFSETS, max_length_q=13), r"got \[0, 6, 7, 20\] and None"),
    "both names": (
        dict(cu_seqlens=OFFSETS, max_seqlen=13, cu_seq_lens_q=OFFSETS, cu_seq_lens_k=OFFSETS),
        "got both",
    ),
    "no longest": (dict(cu_seqlens=OFFSETS), "needs one packed row and max_seqlen, got 1 rows, .*None"),
    "rows": (
        dict(ids=IDS.view(2, 10), cu_seqlens=OFFSETS, max_seqlen=13),
        "needs one packed row and max_seqlen, got 2 rows",
    ),
    "short offsets": (dict(cu_seqlens=OFFSETS[:-1], max_seqlen=13), "must run from 0 to 20, got 0 to 7"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_it_would_get_wrong(case):
    arguments, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        logits(tiny_model("llama"), register_attention(), **arguments)


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("mistral", {"sliding_window": 4}, "no sliding_window, got 4"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "no softcap, got 50.0"),
        ("gpt_oss", {"layer_types": ["full_attention"] * 2, "num_local_experts": 2}, "no s_aux"),
        ("llama", {"attention_dropout": 0.1}, "no dropout, got attention_dropout 0.1"),
    ],
)
@pytest.mark.parametrize("use_cache", [False, True])
def test_refuses_other_attention_by_name(kind, more, message, use_cache):
    model = tiny_model(kind, **more).train()
    with pytest.raises(ValueError, match=message):
        logits(model, register_attention(), use_cache=use_cache)


def test_refuses_packed_sequences_with_a_filled_cache():
    model, name = tiny_model("llama"), register_attention()
    model.set_attn_implementation(name)
    cache = model(input_ids=IDS[:, :5], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="no key/value cache: 20 queries, 25 keys"):
        model(input_ids=IDS, past_key_values=cache, cu_seqlens=OFFSETS, max_seqlen=13)


def masks(model, **arguments):
    from transformers.masking_utils import create_causal_mask

    model.set_attn_implementation(register_attention())
    base = dict(
        config=model.config, inputs_embeds=torch.zeros(1, 6, 32), attention_mask=None, past_key_values=None
    )
    return create_causal_mask(**(base | arguments))


def test_a_mask_that_offsets_cannot_say_is_made_and_refused():
    model = tiny_model("llama")
    assert masks(model) is None
    assert masks(model, position_ids=torch.tensor([[0, 1, 0, 1, 2, 3]])) is None
    image = torch.tensor([[-1, 0, 0, 0, -1, -1]])  # tokens 1 to 3 see each other
    assert masks(model, block_sequence_ids=image)[0, 0, 1].tolist() == [True] * 4 + [False] * 2
    prefix = masks(model, or_mask_function=lambda b, h, q, k: k < 3)
    assert prefix[0, 0, 0].tolist() == [True] * 3 + [False] * 3
    model.config.attention_chunk_size = 4
    from transformers.masking_utils import create_chunked_causal_mask

    chunks = create_chunked_causal_mask(model.config, torch.zeros(1, 6, 32), None, None)
    assert chunks[0, 0, 5].tolist() == [False] * 4 + [True] * 2


def test_a_packed_model_compiles_as_one_graph():
    model, name = tiny_model("llama"), register_attention()
    expected = logits(model, name, position_ids=POSITIONS, **CONVENTIONS["cu_seqlens"])
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    out = compiled(input_ids=IDS, position_ids=POSITIONS, use_cache=False, **CONVENTIONS["cu_seqlens"]).logits
    torch.testing.assert_close(out, expected)
