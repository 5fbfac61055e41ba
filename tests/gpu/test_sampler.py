"""The embedded sampler on a GPU: requests of several kinds in one pass, each drawn as it asks for."""

import numpy as np
import pytest
import torch

from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request, Sampling
from tests.tiny import tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = "cuda"
KINDS = [
    Sampling(),
    Sampling(0.7),
    Sampling(0.7, top_k=3),
    Sampling(top_p=0.2),
    Sampling(0.0),
    Sampling(3.0, min_tokens=6),
]
STOPS = tuple(range(8))


def complete(requests, sampler=None):
    """Completions by id, all requests decoded together."""
    sampler = sampler or TorchSampler(tiny_model().to(DEVICE), max_sequence_tokens=256)
    for request in requests:
        sampler.submit(request)
    done = {}
    for _ in range(200):
        done |= {completion.id: completion for completion in sampler.poll()}
    return done


def make_requests():
    rng = np.random.default_rng(0)
    prompts = [rng.integers(8, 128, 40).astype(np.int32) for _ in range(24)]
    return [Request(t, t, ids, t + 1000, 20, STOPS, KINDS[t % len(KINDS)]) for t, ids in enumerate(prompts)]


def tokens(completions):
    return {c.id: (c.token_ids.tolist(), c.logprobs.tolist()) for c in completions.values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replayed_passes_give_the_same_bits(dtype):
    """Also after an update in place, and after tensors have moved."""
    model = tiny_model("qwen3").to(DEVICE, dtype)
    graphs, plain = (
        TorchSampler(model, max_sequence_tokens=256, cuda_graphs=wanted) for wanted in (True, False)
    )
    changes = [lambda p: None, lambda p: p.mul_(1.2), lambda p: setattr(p, "data", p.data * 0.9)]
    for version, change in enumerate(changes):
        with torch.no_grad():
            for parameter in model.parameters():
                change(parameter)
        for sampler in (graphs, plain):
            sampler.load_weights([], version)
        for _ in range(2):  # the second time its sizes are known
            assert tokens(complete(make_requests(), graphs)) == tokens(complete(make_requests(), plain))
        assert graphs._replayed.num_graphs > 0 and plain._replayed.num_graphs == 0


def test_every_request_is_drawn_its_own_way():
    requests = make_requests()
    together = complete(requests)
    assert len(together) == len(requests)
    for request in requests:
        alone = complete([request])[request.id]
        assert together[request.id].token_ids.tolist() == alone.token_ids.tolist(), request.sampling
        if request.sampling.min_tokens:
            assert not set(alone.token_ids[:6].tolist()) & set(STOPS)
