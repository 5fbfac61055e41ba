"""TorchSampler against plain Hugging Face forward passes, whatever the batching, chunking and eviction."""

import numpy as np
import pytest
import torch

from lamer_fast.samplers.local.sampler import TorchSampler
from lamer_fast.samplers.protocol import Request, Sampling
from lamer_kernels.layers.cached_attention import op as cached_attention
from tests.tiny import tiny_model

V = 128
KINDS = ["qwen2", "qwen3", "llama"]


def prompts(count, seed=0, low=5, high=90):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, V, rng.integers(low, high)).astype(np.int32) for _ in range(count)]


def sampler_of(model, **options):
    return TorchSampler(model, **{"max_sequence_tokens": 256} | options)


def request(trial, ids, max_tokens=12, stop_ids=(), seed=None, **sampling):
    seed = trial + 1000 if seed is None else seed
    return Request(trial, trial, ids, seed, max_tokens, stop_ids, Sampling(**sampling))


def drain(sampler, count):
    """Completions by id; a bound on polls, so that a lost request fails instead of hanging."""
    done = {}
    for _ in range(2000):
        done |= {c.id: c for c in sampler.poll()}
        if len(done) == count:
            return done
    raise AssertionError(f"{len(done)} of {count} requests came back")


def reference_logprobs(model, ids, temperature=1.0):
    """Of each token after the first, by one pass of the model itself."""
    ids = torch.from_numpy(ids.astype(np.int64))
    with torch.no_grad():
        logits = model(ids[None]).logits[0, :-1].float() / temperature
    return torch.log_softmax(logits, -1).gather(1, ids[1:, None])[:, 0].numpy()


def check(model, prompt, completion, temperature=1.0):
    n = len(completion.token_ids)
    expected = reference_logprobs(model, np.concatenate([prompt, completion.token_ids]), temperature)
    np.testing.assert_allclose(completion.logprobs, expected[-n:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_a_plain_forward_pass(kind, backend, temperature, monkeypatch):
    if backend == "reference":
        monkeypatch.setattr(cached_attention, "choose", lambda *given: "reference")
    model = tiny_model(kind)
    sampler = sampler_of(model, max_prefill_tokens=64)  # prompts go in chunks
    texts = prompts(20)
    for turn in range(3):  # the second and third turn continue from the cache
        for t, ids in enumerate(texts):
            sampler.submit(request(t, ids, max_tokens=5 + t % 4, temperature=temperature))
        done = drain(sampler, len(texts))
        for t, ids in enumerate(texts):
            check(model, ids, done[t], temperature)
            texts[t] = np.concatenate([ids, done[t].token_ids, prompts(1, seed=100 * turn + t)[0][:20]])


def test_score_equals_a_plain_forward_pass():
    model = tiny_model()
    texts = [*prompts(9), np.array([5], np.int32), np.zeros(0, np.int32)]
    scores = sampler_of(model, max_prefill_tokens=100).score(texts)
    for ids, score in zip(texts[:9], scores, strict=False):
        assert score[0] == 0
        np.testing.assert_allclose(score[1:], reference_logprobs(model, ids), atol=1e-5, rtol=0)
    assert scores[9].tolist() == [0] and len(scores[10]) == 0


def test_bfloat16_stays_near_the_models_own_pass():
    model = tiny_model().to(torch.bfloat16)
    sampler = sampler_of(model)
    texts = prompts(12)
    for t, ids in enumerate(texts):
        sampler.submit(request(t, ids))
    done = drain(sampler, 12)
    exact = tiny_model()
    for t, ids in enumerate(texts):
        tokens = np.concatenate([ids, done[t].token_ids])
        ours, n = done[t].logprobs, len(done[t].logprobs)
        theirs, truth = reference_logprobs(model, tokens)[-n:], reference_logprobs(exact, tokens)[-n:]
        assert np.abs(ours - truth).mean() <= 1.5 * np.abs(theirs - truth).mean() + 1e-3


def test_a_request_does_not_depend_on_its_batch():
    model = tiny_model()
    texts = prompts(24)
    together = sampler_of(model)
    for t, ids in enumerate(texts):
        together.submit(request(t, ids))
    done = drain(together, 24)
    for options in ({}, {"max_in_flight": 5}, {"max_prefill_tokens": 7}):
        other = sampler_of(model, **options)
        for t in (3, 17, 8) if not options else range(23, -1, -1):
            other.submit(request(t, texts[t]))
        for t, completion in drain(other, 3 if not options else 24).items():
            assert completion.token_ids.tolist() == done[t].token_ids.tolist(), (options, t)
            np.testing.assert_allclose(completion.logprobs, done[t].logprobs, atol=1e-5, rtol=0)


def test_the_seed_decides():
    model = tiny_model()
    ids = prompts(1)[0]
    replies = []
    for seed in (1, 1, 2):
        sampler = sampler_of(model)
        sampler.submit(request(0, ids, seed=seed))
        replies.append(drain(sampler, 1)[0].token_ids.tolist())
    assert replies[0] == replies[1] != replies[2]


def play_turns(sampler, turns=4, trials=6):
    """All tokens and log-probabilities of some multi-turn trials, one after another within each."""
    texts, out = prompts(trials, low=20, high=30), []
    for turn in range(turns):
        for t, ids in enumerate(texts):
            sampler.submit(request(t, ids, seed=97 * turn + t))
        done = drain(sampler, trials)
        for t in range(trials):
            out.append((done[t].token_ids, done[t].logprobs))
            texts[t] = np.concatenate([texts[t], done[t].token_ids, prompts(1, seed=turn)[0][:8]])
    return out


def test_a_small_cache_recomputes_and_gives_the_same():
    model = tiny_model()
    roomy, tight = sampler_of(model), sampler_of(model, cache_tokens=2 * 256)
    for (tokens, logprobs), (tokens_b, logprobs_b) in zip(play_turns(roomy), play_turns(tight), strict=True):
        assert tokens.tolist() == tokens_b.tolist()
        np.testing.assert_allclose(logprobs, logprobs_b, atol=1e-5, rtol=0)
    assert tight._cache.num_slots == 2
    assert tight.num_prefill_tokens > 1.5 * roomy.num_prefill_tokens, "evicted prompts are computed again"


def test_the_cache_is_kept_over_turns():
    sampler = sampler_of(tiny_model())
    first = prompts(1, low=50, high=51)[0]
    sampler.submit(request(0, first))
    reply = drain(sampler, 1)[0].token_ids
    before = sampler.num_prefill_tokens
    sampler.submit(request(0, np.concatenate([first, reply, first[:10]])))
    drain(sampler, 1)
    assert sampler.num_prefill_tokens - before == 11, "the last sampled token and ten new ones"


def test_a_prompt_that_goes_another_way_keeps_the_common_beginning():
    model = tiny_model()
    sampler = sampler_of(model)
    a, b = prompts(1, low=40, high=41)[0], prompts(1, seed=5, low=40, high=41)[0]
    b[:15] = a[:15]
    b[15] = (a[15] + 1) % V
    for ids, computed in ((a, 40), (b, 25), (b[:20], 1)):
        before = sampler.num_prefill_tokens + sampler.num_decode_tokens
        sampler.submit(request(0, ids, max_tokens=1))
        check(model, ids, drain(sampler, 1)[0])
        assert sampler.num_prefill_tokens + sampler.num_decode_tokens - before == computed


def test_stop_ids_and_limits():
    model = tiny_model()
    ids = prompts(1)[0]
    sampler = sampler_of(model)
    sampler.submit(request(0, ids, max_tokens=40))
    free = drain(sampler, 1)[0]
    assert not free.stopped and len(free.token_ids) == 40
    stop = int(free.token_ids[7])
    first = free.token_ids.tolist().index(stop)
    sampler = sampler_of(model)
    sampler.submit(request(0, ids, max_tokens=40, stop_ids=(127, stop) if stop != 127 else (stop,)))
    cut = drain(sampler, 1)[0]
    assert cut.stopped and cut.token_ids.tolist() == free.token_ids[: first + 1].tolist()


def test_cancel_release_and_new_weights():
    model = tiny_model()
    sampler = sampler_of(model, max_in_flight=1)
    for t, ids in enumerate(prompts(3)):
        sampler.submit(request(t, ids))
    sampler.poll()
    with pytest.raises(ValueError, match="trial 0 cannot be released while request 0"):
        sampler.release(0)
    with pytest.raises(ValueError, match="3 requests are in flight, must be 0"):
        sampler.load_weights((), 1)
    sampler.cancel(0)  # running
    sampler.cancel(2)  # waiting
    assert list(drain(sampler, 1)) == [1]
    assert sampler.poll() == []

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    sampler.load_weights((), version=5)
    ids = prompts(3)[1]
    sampler.submit(request(1, ids))
    completion = drain(sampler, 1)[1]
    assert completion.policy_version == 5
    check(model, ids, completion)


def test_one_request_per_trial():
    sampler = sampler_of(tiny_model())
    ids = prompts(1)[0]
    sampler.submit(request(0, ids))
    sampler.submit(Request(1, 0, ids, 0, 5, ()))
    with pytest.raises(ValueError, match="trial 0 has request 0 in flight already"):
        sampler.poll()


def test_every_request_is_drawn_its_own_way():
    """Requests of four kinds decoded together, each as if it were alone."""
    model = tiny_model()
    kinds = [{}, {"temperature": 0.7}, {"temperature": 0.7, "top_k": 3}, {"top_p": 0.2}, {"temperature": 0.0}]
    texts = prompts(10)
    together = sampler_of(model)
    for t, ids in enumerate(texts):
        together.submit(request(t, ids, **kinds[t % len(kinds)]))
    done = drain(together, len(texts))
    for t, ids in enumerate(texts):
        alone = sampler_of(model)
        alone.submit(request(t, ids, **kinds[t % len(kinds)]))
        expected = drain(alone, 1)[t]
        assert done[t].token_ids.tolist() == expected.token_ids.tolist()
        check(model, ids, done[t], kinds[t % len(kinds)].get("temperature") or 1.0)
    plain = sampler_of(model)
    for t, ids in enumerate(texts):
        plain.submit(request(t, ids))
    other = drain(plain, len(texts))
    for t in range(len(kinds), 2 * len(kinds)):
        same = done[t].token_ids.tolist() == other[t].token_ids.tolist()
        assert same == (t % len(kinds) == 0), "a kind that changes nothing shows nothing"


def test_cuts_leave_only_the_likeliest_tokens():
    model = tiny_model()
    ids = prompts(1)[0]
    for sampling, keep in (
        ({"top_k": 2}, lambda p: p >= p.sort().values[-2]),
        ({"top_p": 1e-6}, lambda p: p == p.max()),
    ):
        sampler = sampler_of(model)
        for t in range(20):
            sampler.submit(request(t, ids, max_tokens=1, **sampling))
        with torch.no_grad():
            probs = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0, -1].softmax(-1)
        drawn = {int(c.token_ids[0]) for c in drain(sampler, 20).values()}
        assert drawn <= set(torch.nonzero(keep(probs))[:, 0].tolist())


def test_no_stop_id_before_the_least_length():
    """Eight of 128 tokens stop a reply: without a least length some end before it."""
    model = tiny_model()
    ids, stops = prompts(1)[0], tuple(range(8))
    lengths = {}
    for least in (0, 5):
        sampler = sampler_of(model)
        for t in range(60):
            sampler.submit(request(t, ids, max_tokens=60, stop_ids=stops, temperature=3.0, min_tokens=least))
        done = drain(sampler, 60).values()
        lengths[least] = [len(c.token_ids) for c in done]
        for c in done:
            assert not set(c.token_ids[:-1].tolist()) & set(stops)
            assert c.stopped == (int(c.token_ids[-1]) in stops)
    assert min(lengths[5]) == 6 and min(lengths[0]) < 6


def test_temperature_zero_takes_the_likeliest_token():
    model = tiny_model()
    ids = prompts(1)[0]
    sampler = sampler_of(model)
    sampler.submit(request(0, ids, temperature=0.0))
    completion = drain(sampler, 1)[0]
    tokens = np.concatenate([ids, completion.token_ids])
    with torch.no_grad():
        best = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].argmax(-1).numpy()
    assert completion.token_ids.tolist() == best[len(ids) - 1 : -1].tolist()
    check(model, ids, completion)


def test_a_sampler_that_slept_gives_the_same_tokens():
    sampler, ids = sampler_of(tiny_model()), prompts(20)
    found = []
    for _ in range(2):
        for t, prompt in enumerate(ids):
            sampler.submit(request(t, prompt))
        with pytest.raises(ValueError, match="20 requests are in flight"):
            sampler.sleep()
        found.append({i: c.token_ids.tolist() for i, c in drain(sampler, 20).items()})
        assert sampler._cache.num_slots == 32
        sampler.sleep()
        assert sampler._cache.num_slots == 0
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_tokens": 100}, "cache_tokens 100 is less than max_sequence_tokens 256"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        sampler_of(tiny_model(), **options)


def test_bad_requests():
    sampler = sampler_of(tiny_model())
    ids = prompts(1, low=50, high=51)[0]
    with pytest.raises(ValueError, match=r"prompt of 50 [+] max_tokens 207 exceed max_sequence_tokens 256"):
        sampler.submit(request(0, ids, max_tokens=207))
    with pytest.raises(ValueError, match="max_tokens >= 1, got 0 and 5"):
        sampler.submit(request(0, ids[:0], max_tokens=5))
