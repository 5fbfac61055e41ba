"""The decoder against transformers' own forward pass, by family: packed, with gradients, with a cache."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig

from lamer_fast.learn.batch import Packed
from lamer_fast.learn.policy import Policy
from lamer_fast.model.architecture import HUGGING_FACE, Architecture, decoder_computes
from lamer_fast.model.cache import SlotCache
from lamer_fast.model.decoder import Decoder, PackedAttention
from lamer_fast.model.project import project
from lamer_kernels import register_attention
from tests.tiny import tiny_model

LENGTHS = (30, 90, 1, 57)
NUM_IDS = 100  # of the 128 rows of the head


def rope(rope_type, **options):
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 1e4} | options}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FAMILIES = {
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3": ("llama", rope("llama3", original_max_position_embeddings=64, **LLAMA3)),
    "llama, linear": ("llama", rope("linear", factor=3.0)),
    "qwen2": ("qwen2", {}),
    "qwen2, yarn": ("qwen2", rope("yarn", factor=4.0, original_max_position_embeddings=32)),
    "qwen3": ("qwen3", {}),
    "smollm2": ("llama", {"tie_word_embeddings": True, "num_attention_heads": 3, "hidden_size": 48,
                          "num_key_value_heads": 1}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0]}),
    "mistral": ("mistral", {"sliding_window": None, "head_dim": 24}),
    "mistral, a window as long as its context": ("mistral", {"sliding_window": 16_384}),
    "phi3": ("phi3", {}),
    "phi3, a part of each head turns": ("phi3", rope("default", partial_rotary_factor=0.5)),
}  # fmt: skip


def family(name, dtype=torch.float32):
    kind, options = FAMILIES[name]
    model = tiny_model(kind, **options)
    for parameter in model.parameters():  # rotary tables stay float32, as in a policy
        parameter.data = parameter.data.to(dtype)
    return model


def sequences():
    g = torch.Generator().manual_seed(0)
    return [torch.randint(NUM_IDS, (n,), generator=g) for n in LENGTHS]


def packed(wanted=None, device="cpu"):
    positions = torch.cat([torch.arange(n) for n in LENGTHS]).to(device)
    offsets = torch.tensor([0, *LENGTHS]).cumsum(0).int().to(device)
    return PackedAttention(positions, offsets, max(LENGTHS), wanted)


def by_module(model):
    """Last hidden states of every token, sequence by sequence."""
    return torch.cat([model.get_decoder()(ids[None], use_cache=False)[0][0] for ids in sequences()])


def by_decoder(model, wanted=None):
    return Decoder(model)(torch.cat(sequences()).to(model.device), packed(wanted, model.device))


def with_gradients(hidden, model):
    """Hidden states, and the gradient of every parameter of the trunk for one upstream gradient."""
    parameters = list(model.get_decoder().parameters())
    upstream = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1)).to(hidden)
    return [hidden.detach(), *torch.autograd.grad(hidden, parameters, upstream)]


def error(values, truth):
    """The largest relative one, tensor by tensor."""
    pairs = zip(values, truth, strict=True)
    return max(float((a.cpu().double() - b.cpu().double()).norm() / b.double().norm()) for a, b in pairs)


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_states_and_gradients(name):
    model, exact = family(name), family(name, torch.float64)
    truth = with_gradients(by_module(exact), exact)
    assert error(with_gradients(by_decoder(model), model), truth) < 1e-5

    model = family(name, torch.bfloat16)
    module = error(with_gradients(by_module(model), model), truth)
    # both round to 8 bits in every layer, at different places
    assert error(with_gradients(by_decoder(model), model), truth) < 2 * module


def generate(model, max_tokens=256):
    """Logits [tokens, NUM_IDS] of every sequence through a cache: prompts in chunks beside decoding rows."""
    decoder, ids = Decoder(model, NUM_IDS), sequences()
    decoder.fuse()
    cache = SlotCache(decoder, 3, max_tokens)
    slots, logits = [5, 0, 3, 2], [[] for _ in ids]
    with torch.inference_mode():
        for step, width in enumerate((7, 1, 40, 1, 1, 100)):
            if step == 2:
                cache.grow(6)
            rows = [
                i for i in range(len(ids)) if (step >= 2 or slots[i] < 3) and len(ids[i]) > done(logits[i])
            ]
            starts = [done(logits[i]) for i in rows]
            parts = [ids[i][start : start + width + i] for i, start in zip(rows, starts, strict=True)]
            attention = cache.rows(
                np.array([slots[i] for i in rows]), np.array(starts), np.array(list(map(len, parts))),
                torch.cat(parts).numpy(),
            )  # fmt: skip
            hidden = decoder(attention.token_ids, attention)
            for i, part in zip(rows, decoder.logits(hidden).split(list(map(len, parts))), strict=True):
                logits[i].append(part)
    return [torch.cat(parts) for parts in logits]


def done(parts):
    return sum(map(len, parts))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_with_a_cache(name):
    exact, model = family(name, torch.float64), family(name)
    with torch.no_grad():
        truth = [exact(ids[None]).logits[0, :, :NUM_IDS] for ids in sequences()]
        assert error(generate(model), truth) < 1e-5
        model = family(name, torch.bfloat16)
        module = error([model(ids[None]).logits[0, :, :NUM_IDS] for ids in sequences()], truth)
        assert error(generate(model), truth) < 2 * module


def test_only_the_wanted_tokens_come_out():
    model, wanted = family("qwen3"), torch.tensor([5, 4, 100, 177])
    torch.testing.assert_close(by_decoder(model, wanted), by_decoder(model)[wanted])
    assert by_decoder(model, wanted[:0]).shape == (0, 32)


def test_wanted_tokens_of_a_cached_pass():
    decoder = Decoder(family("llama"))
    rows = (np.array([1, 0]), np.array([0, 0]), np.array([30, 20]), torch.cat(sequences())[:50].numpy())
    with torch.inference_mode():
        some, every = (SlotCache(decoder, 2, 64).rows(*rows, w) for w in (np.array([29, 49]), None))
        hidden = decoder(some.token_ids, some)
        torch.testing.assert_close(hidden, decoder(every.token_ids, every)[[29, 49]])


def test_nan_is_not_hidden():
    model = family("qwen3")
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    assert by_decoder(model).isnan().any()


def test_same_bits_twice_and_when_layers_are_computed_again():
    model = family("qwen3").train()
    first, second = (with_gradients(by_decoder(model), model) for _ in range(2))
    calls = []
    model.gradient_checkpointing_enable()
    decoder = Decoder(model)
    for block in decoder.blocks:
        block.register_forward_pre_hook(lambda block, args: calls.append(block.index))
    third = with_gradients(decoder(torch.cat(sequences()), packed()), model)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, third, strict=True))
    assert calls == [0, 1, 1, 0], "forward, and once more in the backward pass"


class Adapter(nn.Module):
    """What peft puts in the place of a linear layer."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        g = torch.Generator().manual_seed(2)
        self.a = nn.Parameter(torch.randn(rank, base.in_features, generator=g))
        self.b = nn.Parameter(torch.randn(base.out_features, rank, generator=g))

    def forward(self, x):
        return self.base(x) + 0.1 * nn.functional.linear(nn.functional.linear(x, self.a), self.b)


ADAPTED = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def test_adapters_count_in_training_and_in_sampling():
    model = family("llama").requires_grad_(False)
    plain = by_decoder(model)
    decoder = Decoder(model)
    decoder.fuse()
    for layer in model.model.layers:
        for path in ADAPTED:
            parent, name = path.split(".")
            setattr(getattr(layer, parent), name, Adapter(layer.get_submodule(path)))
    adapters = [p for p in model.parameters() if p.requires_grad]
    results = []
    for hidden in (by_module(model), by_decoder(model), decoder(torch.cat(sequences()), packed())):
        results.append([hidden.detach(), *torch.autograd.grad(hidden.square().sum(), adapters)])
    assert error(results[1], results[0]) < 1e-5 and error(results[2], results[0]) < 1e-5
    assert error(results[0][:1], [plain]) > 0.1
    with torch.no_grad():
        truth = [model(ids[None]).logits[0, :, :NUM_IDS] for ids in sequences()]
    assert error(generate(model), truth) < 1e-5


@pytest.mark.parametrize("where", ["self_attn.k_proj", "mlp.down_proj", "mlp.gate_proj"])
def test_a_hook_on_a_projection_counts(where):
    model = family("qwen2")
    model.model.layers[1].get_submodule(where).register_forward_hook(lambda module, args, out: 2 * out)
    with torch.no_grad():
        truth = [model(ids[None]).logits[0, :, :NUM_IDS] for ids in sequences()]
    assert error(generate(model), truth) < 1e-5
    assert error(with_gradients(by_decoder(model), model), with_gradients(by_module(model), model)) < 1e-5


def test_products_into_one_output():
    """What a GPU does with several projections of one input, against their outputs side by side."""
    from lamer_fast.model.project import _Products

    torch.manual_seed(0)
    x = torch.randn(5, 6, requires_grad=True)
    layers = [nn.Linear(6, 3), nn.Linear(6, 4, bias=False), nn.Linear(6, 2)]
    layers[2].weight.requires_grad_(False)
    truth = torch.cat([layer(x) for layer in layers], dim=-1)
    ours = _Products.apply(x, 3, *(layer.weight for layer in layers), *(layer.bias for layer in layers))
    leaves = [x, *(p for layer in layers for p in layer.parameters() if p.requires_grad)]
    upstream = torch.randn(5, 9)
    grads = [torch.autograd.grad(out, leaves, upstream) for out in (truth, ours)]
    torch.testing.assert_close([ours, *grads[1]], [truth, *grads[0]])
    torch.testing.assert_close(project(x, *layers), truth)


def test_layers_may_be_sharded():
    """FSDP2 around the blocks, one process: what it gathers for a call is what the call reads."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    model = family("qwen3")
    truth = with_gradients(by_decoder(model), model)[1:]
    decoder = Decoder(model)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = dist.init_device_mesh("cpu", (1,))
        for block in decoder.blocks:
            fully_shard(block, mesh=mesh)
        hidden = decoder(torch.cat(sequences()), packed())
        upstream = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
        hidden.backward(upstream)
        parameters = model.get_decoder().parameters()
        grads = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in parameters]
    finally:
        dist.destroy_process_group()
    assert error(grads, truth) < 1e-6


def batch():
    ids = torch.cat(sequences())
    cu_seqlens = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    every = torch.arange(len(ids))
    return Packed(ids, packed().positions, cu_seqlens, max(LENGTHS), token_idx=every, targets=ids)


@pytest.mark.parametrize("kind", HUGGING_FACE)
def test_families_that_train_on_their_own_module(kind):
    model = tiny_model(kind)
    truth = by_module(model)
    model.set_attn_implementation(register_attention())
    assert not decoder_computes(model.config)
    with torch.no_grad():
        assert error([Policy(model, None, torch.float32).hidden(batch())], [truth]) < 1e-5


def test_policy_on_either_trunk_gives_the_same_positions():
    model = family("qwen3")
    model.set_attn_implementation(register_attention())
    policy = Policy(model, None, torch.float32)
    ours = policy.hidden(batch())
    policy.decoder = None
    torch.testing.assert_close(policy.hidden(batch()), ours, rtol=1e-5, atol=1e-5)


REFUSED = [
    ("gemma3_text", {}, "model type 'gemma3_text' is not one of llama, mistral"),
    ("gpt2", {}, "model type 'gpt2' is not one of"),
    ("qwen2", {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"],
               "use_sliding_window": True, "sliding_window": 64}, "layer 1 is of type 'sliding_attention'"),
    ("mistral", {"sliding_window": 4096, "max_position_embeddings": 32768}, "window = 4096 of 32768"),
    ("mistral", {"sliding_window": 4096, "max_position_embeddings": 4096} | rope("linear", factor=2.0),
     "of 8192"),
    ("phi3", {"sliding_window": 2047, "pad_token_id": None}, "sliding_window = 2047 of 4096"),
    ("llama", rope("dynamic", factor=2.0), "rotary positions of type 'dynamic'"),
    ("llama", {"hidden_act": "gelu"}, "llama: activation 'gelu', only 'silu'"),
    ("llama", {"attention_dropout": 0.1}, "attention_dropout = 0.1, but the policy that is trained"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "message"), REFUSED)
def test_refused_by_name(kind, options, message):
    config = AutoConfig.for_model(kind, **options)
    with pytest.raises(ValueError, match=message):
        Architecture.of(config)
    with pytest.raises(ValueError, match=f"cannot be trained: .*{message}"):
        decoder_computes(config)


def test_longrope_is_refused():
    short = [1.0] * 4
    config = AutoConfig.for_model("phi3", hidden_size=32, num_attention_heads=4, num_key_value_heads=4,
        pad_token_id=None, original_max_position_embeddings=64,
        **rope("longrope", short_factor=short, long_factor=short))  # fmt: skip
    with pytest.raises(ValueError, match="rotary positions of type 'longrope' depend on the length"):
        Architecture.of(config)
