"""The decoder on a GPU against transformers in float64 on a CPU: packed, with gradients, with a cache."""

import pytest
import torch

from tests.unit.test_decoder import (
    NUM_IDS,
    by_decoder,
    by_module,
    error,
    family,
    generate,
    sequences,
    with_gradients,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NAMES = ["qwen3", "llama with biases", "smollm3", "phi3, a part of each head turns"]


@pytest.mark.parametrize("name", NAMES)
def test_packed_states_and_gradients(name):
    exact = family(name, torch.float64)
    truth = with_gradients(by_module(exact), exact)
    model = family(name).cuda()
    assert error(with_gradients(by_decoder(model), model), truth) < 1e-5
    model = family(name, torch.bfloat16)
    module = error(with_gradients(by_module(model), model), truth)
    assert error(with_gradients(by_decoder(model.cuda()), model), truth) < 2 * module


@pytest.mark.parametrize("name", NAMES)
def test_logits_with_a_cache(name):
    exact = family(name, torch.float64)
    with torch.no_grad():
        truth = [exact(ids[None]).logits[0, :, :NUM_IDS] for ids in sequences()]
        assert error(generate(family(name).cuda()), truth) < 1e-5
        model = family(name, torch.bfloat16)
        module = error([model(ids[None]).logits[0, :, :NUM_IDS] for ids in sequences()], truth)
        assert error(generate(model.cuda()), truth) < 2 * module
