"""A head with more rows than the tokenizer has ids: none of them is sampled or has a share of probability."""

import numpy as np
import pytest
import torch

from lamer_fast.learn.policy import Policy
from lamer_fast.learn.probe import score_tokens
from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request, Sampling
from tests.tiny import tiny_model, tiny_tokenizer
from tests.unit.test_torch_sampler import drain, prompts

NUM_IDS = len(tiny_tokenizer())
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def padded_model(kind="qwen3"):
    """Its padded rows would be drawn at nearly every step."""
    model = tiny_model(kind, vocab_size=NUM_IDS + 40)
    with torch.no_grad():
        model.get_output_embeddings().weight[NUM_IDS:] *= 20
    return model.to(DEVICE)


def completions(num_ids, sampling):
    sampler = TorchSampler(padded_model(), max_sequence_tokens=256, num_ids=num_ids)
    for i, ids in enumerate(prompts(8)):
        sampler.submit(Request(i, i, np.minimum(ids, NUM_IDS - 1), i, 40, (), sampling))
    return np.concatenate([c.token_ids for c in drain(sampler, 8).values()])


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.0), Sampling(1.3, 0.9, 200)])
def test_no_padded_id_is_sampled(sampling):
    assert completions(None, sampling).max() >= NUM_IDS, "without the limit they are drawn"
    assert completions(NUM_IDS, sampling).max() < NUM_IDS


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_sampler_and_trainer_agree_and_share_nothing_with_padding(kind):
    policy = Policy(padded_model(kind), tiny_tokenizer(), torch.float32)
    assert policy.num_ids == NUM_IDS == len(policy.head_weight)
    sampler = TorchSampler(policy.model, max_sequence_tokens=256, num_ids=policy.num_ids)
    ids = np.minimum(prompts(1, low=50)[0], NUM_IDS - 1)
    logits = policy.model(torch.from_numpy(ids[None]).long().to(DEVICE)).logits[0, :-1, :NUM_IDS]
    wanted = logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].detach().cpu().numpy()
    np.testing.assert_allclose(score_tokens(policy, ids, 1.0), wanted, atol=1e-5)
    np.testing.assert_allclose(sampler.score([ids])[0][1:], wanted, atol=1e-5)


def test_a_vocabulary_without_padding_is_read_as_it_is():
    policy = Policy(tiny_model(vocab_size=NUM_IDS), tiny_tokenizer(), torch.float32)
    assert policy.head_weight is policy.model.get_output_embeddings().weight


def test_more_stop_ids_than_any_request_before():
    model = tiny_model()
    sampler = TorchSampler(model, max_sequence_tokens=256)
    counts = (0, 1, 3, 20, 2)
    for i, (ids, count) in enumerate(zip(prompts(len(counts)), counts, strict=True)):
        sampler.submit(Request(i, i, ids, i, 40, tuple(range(100, 100 + count))))
    for i, completion in drain(sampler, len(counts)).items():
        stops = np.isin(completion.token_ids, range(100, 100 + counts[i]))
        assert not stops[:-1].any() and completion.stopped == bool(stops[-1])
