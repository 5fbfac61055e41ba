"""Passes of few sizes, replayed: the code of a GPU, with a function in the place of a graph."""

import numpy as np
import pytest
import torch

from lamer_fast.model.cache import SlotCache, padded_size
from lamer_fast.model.decoder import Decoder
from lamer_fast.model.replay import MAX_TOKENS, Replayed
from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request, Sampling
from tests.tiny import tiny_model


def test_few_sizes_and_little_padding():
    sizes = {padded_size(n) for n in range(1, MAX_TOKENS + 1)}
    assert len(sizes) == 36 and max(sizes) == MAX_TOKENS
    assert all(n <= padded_size(n) <= 1.25 * n + 3 for n in range(1, MAX_TOKENS + 1))


@pytest.mark.parametrize("counts", [[1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 40, 1], [1, 1, 9, 30], [13]])
def test_padding_changes_nothing(counts):
    """Hidden states and cache, of decoding rows alone and beside chunks of prompts."""
    decoder, rng = Decoder(tiny_model("qwen3")), np.random.default_rng(0)
    n = len(counts)
    slots, starts = rng.permutation(n), np.zeros(n, np.int64)
    ends = np.cumsum(counts)
    wanted = None if max(counts) == 1 else ends[: n - 1] - 1  # the last row is not at its end
    out = []
    for pad in (False, True):
        cache = SlotCache(decoder, n, 64)
        attention = cache.rows(slots, starts, np.array(counts), np.arange(ends[-1]), wanted, pad=pad)
        with torch.inference_mode():
            out.append((decoder(attention.token_ids, attention), *(x for kv in cache.layers for x in kv)))
    (plain, *before), (padded, *after) = out
    torch.testing.assert_close(padded[: len(plain)], plain)
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x, y)


class Recorded:
    """A graph of the CPU: the same function again. As on a GPU, later passes may only change its inputs."""

    def __init__(self):
        self.calls = []

    def __call__(self, run):
        number = len(self.calls)
        self.calls.append(0)

        def replay():
            self.calls[number] += 1
            return run()

        return replay


def replaying_sampler(model, **options):
    sampler, capture = TorchSampler(model, max_sequence_tokens=128, **options), Recorded()
    sampler._pads, sampler._replayed = True, Replayed(sampler._decoder, capture)
    sampler._replayed.refresh()
    return sampler, capture


def play(sampler, model=None):
    """Prompts of several lengths and kinds of sampling, admitted while others decode; tokens by request."""
    rng, done = np.random.default_rng(1), {}
    kinds = [Sampling(), Sampling(0.0), Sampling(0.7, top_p=0.5)]
    for trial in range(12):
        ids = rng.integers(8, 128, 5 + 7 * trial).astype(np.int32)
        sampler.submit(Request(trial, trial, ids, trial, 8 + trial, (3,), kinds[trial % 3]))
        done |= {c.id: c.token_ids.tolist() for c in sampler.poll()}
    for _ in range(60):
        done |= {c.id: c.token_ids.tolist() for c in sampler.poll()}
    assert len(done) == 12
    return done


def test_the_same_tokens_with_replayed_passes():
    model = tiny_model("qwen3")
    sampler, capture = replaying_sampler(model, cache_tokens=12 * 128)
    assert play(sampler) == play(TorchSampler(model, max_sequence_tokens=128))
    assert sum(capture.calls) > 10
    num_graphs = sampler._replayed.num_graphs
    with torch.no_grad():
        for parameter in model.parameters():  # as an update publishes its masters
            parameter.mul_(1.1)
    sampler.load_weights([], version=1)
    assert play(sampler) == play(TorchSampler(model, max_sequence_tokens=128))
    assert sampler._replayed.num_graphs >= num_graphs > 0, "changed in place: nothing is captured anew"


def test_graphs_of_weights_or_slots_that_have_moved_are_forgotten():
    model = tiny_model("qwen3")
    sampler, _ = replaying_sampler(model)
    play(sampler)
    weight = model.model.layers[0].mlp.down_proj.weight
    weight.data = 2 * weight.data
    assert sampler._replayed.num_graphs > 0
    sampler.load_weights([], version=1)
    assert sampler._replayed.num_graphs == 0
    play(sampler)
    sampler._make_room()
    assert sampler._replayed.num_graphs == 0


def test_a_device_that_refuses_goes_on_without():
    def refuses(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    model = tiny_model("qwen3")
    sampler, _ = replaying_sampler(model)
    sampler._replayed = Replayed(sampler._decoder, refuses)
    with pytest.warns(UserWarning, match="without CUDA graphs, and slower: operation not permitted"):
        assert play(sampler) == play(TorchSampler(model, max_sequence_tokens=128))
