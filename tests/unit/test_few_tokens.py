"""Passes of few tokens by one call a layer: the states and cache of the decoder, and what is left to it."""

import numpy as np
import pytest
import torch

from lamer_fast.model.cache import SlotCache
from lamer_fast.model.decoder import Decoder
from lamer_fast.model.few_tokens import MAX_TOKENS, FewTokens
from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request, Sampling
from lamer_kernels.layers import block_weights, cached_blocks, new_slots
from tests.tiny import tiny_model
from tests.unit.test_decoder import FAMILIES, family

pytest.importorskip("numba", reason="without numba no pass of few tokens is taken")


def model_of(name, dtype=torch.float32):
    model = family(name, dtype)
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if path.endswith(("bias", "norm.weight")):  # which are all zeros and ones
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=g).to(parameter.dtype))
    return model


def both(model):
    decoder = Decoder(model)
    few = FewTokens(decoder)
    few.refresh()
    return few, lambda attention: decoder(attention.token_ids, attention)


def passes(compute, decoder, rows=(0, 1, 2)):
    """Hidden states of a prompt's chunk, of decoding rows beside one, and of decoding rows; and the cache."""
    cache, out = SlotCache(decoder, 4, 64), []
    for counts, wanted in (((20, 7, 3), None), ((1, 9, 1), [0, 9, 10]), ((1, 1, 1), None)):
        starts = [0] * 3 if not out else [20, 7, 3] if len(out) == 1 else [21, 16, 4]
        ids = [(np.arange(n) * 7 + 31 * row + 5 * len(out)) % 100 for row, n in enumerate(counts)]
        if len(rows) < 3:
            wanted = None if wanted is None else [counts[rows[0]] - 1]
        attention = cache.rows(
            np.array([(2, 0, 3)[r] for r in rows]), np.array([starts[r] for r in rows]),
            np.array([counts[r] for r in rows]), np.concatenate([ids[r] for r in rows]),
            None if wanted is None else np.array(wanted),
        )  # fmt: skip
        with torch.inference_mode():
            out.append(compute(attention))
    return [*out, *(x for layer in cache.layers for x in layer)]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_the_decoder_computes(name):
    few, plain = both(model_of(name))
    ours, theirs = (passes(compute, few._decoder) for compute in (few, plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["qwen3", "llama with biases"])
def test_in_bfloat16_as_near_to_the_truth_as_the_decoder(name):
    few, plain = both(model_of(name, torch.bfloat16))
    exact, _ = both(model_of(name, torch.float64))
    truth = passes(lambda at: exact._decoder(at.token_ids, at), exact._decoder)
    ours, theirs = (passes(compute, few._decoder) for compute in (few, plain))
    for a, b, c in zip(ours, theirs, truth, strict=True):
        assert (a - c).norm() < 1.1 * (b - c).norm() + 1e-3 * c.norm()


def test_no_row_changes_another():
    few, _ = both(model_of("qwen3", torch.bfloat16))
    together, alone = passes(few, few._decoder), passes(few, few._decoder, rows=(1,))
    for a, b, row in zip(together[:3], alone[:3], (slice(20, 27), slice(1, 2), slice(1, 2)), strict=True):
        assert a[row].equal(b)


def attention_of(decoder, num_tokens):
    counts = np.ones(num_tokens, np.int64)
    return SlotCache(decoder, num_tokens, 8).rows(np.arange(num_tokens), 0 * counts, counts, counts)


def test_what_it_leaves_to_the_decoder():
    few, _ = both(model_of("qwen3"))
    assert few.takes(attention_of(few._decoder, MAX_TOKENS))
    assert not few.takes(attention_of(few._decoder, MAX_TOKENS + 1))
    hooked = model_of("qwen3")
    hooked.model.layers[1].mlp.down_proj.register_forward_hook(lambda module, args, out: 2 * out)
    for model in (hooked, model_of("qwen3", torch.float64), tiny_model("llama", intermediate_size=40)):
        few, _ = both(model)
        assert not few.takes(attention_of(few._decoder, 1))


def test_the_sampler_takes_it_and_its_new_weights():
    """Tokens at temperature 0 follow the weights after a transfer, not the copies from before."""
    model = model_of("qwen3")
    sampler = TorchSampler(model, max_sequence_tokens=64)

    def reply(sampler):
        sampler.submit(Request(0, 0, np.arange(5, dtype=np.int32), 0, 12, (), Sampling(0.0)))
        while not (done := sampler.poll()):
            pass
        return done[0].token_ids.tolist()

    before = reply(sampler)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(-3)
    sampler.load_weights((), 1)
    assert sampler._replayed._few.takes(attention_of(sampler.decoder, 1))
    after = reply(sampler)
    assert after != before
    sampler.release(0)
    with sampler.as_it_is():
        assert reply(sampler) == after


def test_arguments_that_disagree_are_named():
    weights = [(torch.ones(n, m), None) for n, m in ((64, 32), (32, 32), (64, 32), (32, 32))]
    qkv, out, gate_up, down = weights
    layer = block_weights(torch.ones(32), qkv, None, None, out, torch.ones(32), gate_up, down)
    index, sizes = torch.zeros(3).long(), {"num_heads": 2, "num_kv_heads": 1, "scale": 1.0, "eps": 1e-6}
    for x, slots, norm, message in (
        (torch.ones(3, 32).half(), index, torch.ones(32), "x must be"),
        (torch.ones(3, 32), index[:2], torch.ones(32), "slots"),
        (torch.ones(3, 32), index, torch.ones(31), "norm"),
        (torch.ones(32, 3).mT, index, torch.ones(32), "contiguous"),
    ):
        with pytest.raises(ValueError, match=message):
            cached_blocks(x, [(layer,)], slots, index, norm, **sizes)
    with pytest.raises(ValueError, match="x requires a gradient"):
        cached_blocks(
            torch.ones(3, 32, requires_grad=True), [(layer,)], index, index, torch.ones(32), **sizes
        )


def test_weights_are_copies_and_may_require_gradients():
    """A trainer's parameters, one of them stored by columns, outside `no_grad`; and no token at all."""
    sizes = ((64, 32), (32, 32), (64, 32), (32, 32))
    weights = [torch.nn.Parameter(torch.full(size, 2.0)) for size in sizes]
    weights[1] = torch.nn.Parameter(torch.full((32, 32), 2.0).mT)
    biases = [torch.nn.Parameter(torch.full(size[:1], 2.0)) for size in sizes]
    norm = torch.nn.Parameter(torch.full((32,), 2.0))
    qkv, out, gate_up, down = zip(weights, biases, strict=True)
    norms, linears = block_weights(norm, qkv, None, None, out, norm, gate_up, down)
    with torch.no_grad():
        for parameter in (*weights, *biases, norm):
            parameter.zero_()
    assert all((array == 2).all() for array in (*norms[:2], *(part for linear in linears for part in linear)))
    none, numbers = torch.zeros(0).long(), {"num_heads": 2, "num_kv_heads": 1, "scale": 1.0, "eps": 1e-6}
    table = torch.zeros(8, 8)
    layers = [((norms, linears), table, table, *new_slots(1, 8, 1, 16, torch.float32))]
    assert cached_blocks(torch.zeros(0, 32), layers, none, none, norm, **numbers).shape == (0, 32)
