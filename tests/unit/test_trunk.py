"""The CPU trunk against the Hugging Face module over the same parameters."""

import pytest
import torch

from lamer_fast.learn.batch import Packed
from lamer_fast.learn.policy import Policy
from lamer_fast.learn.trunk import make_trunk
from lamer_kernels import register_attention
from tests.tiny import tiny_model

LENGTHS = (30, 140, 1, 77)


def packed(vocab_size=128):
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (sum(LENGTHS),), generator=g)
    idx = (torch.rand(len(ids), generator=g) < 0.4).nonzero()[:, 0]
    return Packed(
        input_ids=ids, position_ids=torch.cat([torch.arange(n) for n in LENGTHS]),
        cu_seqlens=torch.tensor([0, *LENGTHS]).cumsum(0).int(), max_seqlen=max(LENGTHS), token_idx=idx,
        targets=ids[idx],
    )  # fmt: skip


def by_module(model, batch):
    out = model.get_decoder()(
        input_ids=batch.input_ids[None], position_ids=batch.position_ids[None], use_cache=False,
        cu_seqlens=batch.cu_seqlens, max_seqlen=batch.max_seqlen,
    )  # fmt: skip
    return out.last_hidden_state[0, batch.token_idx]


def hidden_and_gradients(forward, model, batch):
    """Hidden states and the gradient of every parameter of the trunk for one upstream gradient."""
    parameters = list(model.get_decoder().parameters())
    hidden = forward(batch)
    upstream = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1)).to(hidden.dtype)
    return [x.float() for x in (hidden.detach(), *torch.autograd.grad(hidden, parameters, upstream))]


def error(values, truth):
    return max(float((a - b).norm() / b.norm()) for a, b in zip(values, truth, strict=True))


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama"])
def test_equals_the_module(kind):
    model, batch = tiny_model(kind), packed()
    model.set_attn_implementation(register_attention())
    truth = hidden_and_gradients(lambda b: by_module(model, b), model, batch)
    assert error(hidden_and_gradients(make_trunk(model), model, batch), truth) < 1e-5

    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    module = error(hidden_and_gradients(lambda b: by_module(model, b), model, batch), truth)
    # both round to 8 bits at every layer, at different places
    assert error(hidden_and_gradients(make_trunk(model), model, batch), truth) < 1.5 * module


def test_policy_without_trunk_gives_the_same_positions():
    model, batch = tiny_model("qwen3"), packed()
    model.set_attn_implementation(register_attention())
    policy = Policy(model, None, torch.float32)
    fused = policy.hidden(batch)
    policy.trunk = None
    torch.testing.assert_close(policy.hidden(batch), fused, rtol=1e-5, atol=1e-5)


def test_nan_is_not_hidden():
    model, batch = tiny_model("qwen3"), packed()
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
    assert make_trunk(model)(batch).isnan().any()


def test_same_bits_twice():
    model, batch = tiny_model("qwen3"), packed()
    first, second = (hidden_and_gradients(make_trunk(model), model, batch) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("change", ["float16", "checkpointing", "dropout"])
def test_leaves_the_rest_to_the_module(change):
    model = tiny_model("qwen3", attention_dropout=0.1 if change == "dropout" else 0.0)
    if change == "float16":
        model.half()
    if change == "checkpointing":
        model.gradient_checkpointing_enable()
    assert make_trunk(model) is None
