"""Drawing from a distribution by counters: right frequencies, right cuts, nothing shared between requests."""

import numpy as np
import torch

from lamer_fast.rollout.samplers.sampling import mix, sample, uniforms


def test_uniforms_are_uniform_and_independent_of_the_batch():
    seeds, counters = np.arange(300, dtype=np.uint64), np.arange(200)
    grid = uniforms(seeds[:, None], counters[None, :])
    assert grid.shape == (300, 200) and grid.min() >= 0 and grid.max() < 1
    assert abs(grid.mean() - 0.5) < 4 / np.sqrt(12 * grid.size)
    assert len(np.unique(grid)) > 0.99 * grid.size
    assert abs(np.corrcoef(grid[:-1].ravel(), grid[1:].ravel())[0, 1]) < 4 / np.sqrt(grid.size)
    assert uniforms(seeds[7:8], counters[3:4])[0] == grid[7, 3]


def test_mix_depends_on_every_value_and_their_order():
    values = {int(mix(*args)[0]) for args in ((1, 2), (2, 1), (1, 2, 0), (1,), (0, 1, 2), (1, 3))}
    assert len(values) == 6


def test_frequencies_follow_the_distribution():
    probs = torch.tensor([0.5, 0.0, 0.2, 0.3, 0.0])
    n = 20_000
    draws = uniforms(np.arange(n, dtype=np.uint64), np.zeros(n, np.int64))
    tokens, logprobs = sample(probs.log().expand(n, -1), draws, 1.0)
    counts = np.bincount(tokens, minlength=5)
    assert counts[1] == counts[4] == 0
    np.testing.assert_allclose(counts / n, probs.numpy(), atol=4 * 0.5 / np.sqrt(n))
    np.testing.assert_allclose(logprobs, probs.log().numpy()[tokens], rtol=1e-6)


def test_the_ends_of_the_range_hit_possible_tokens():
    logprobs = torch.tensor([[0.0, 0.25, 0.75, 0.0]]).log().expand(2, -1)
    tokens, _ = sample(logprobs, np.array([0.0, 1 - 2.0**-23], np.float32), 1.0)
    assert tokens.tolist() == [1, 2]


def test_top_k_and_top_p_cut_the_tail_and_keep_full_logprobs():
    probs = torch.tensor([0.1, 0.4, 0.3, 0.2])
    n = 4000
    draws = uniforms(np.arange(n, dtype=np.uint64), np.zeros(n, np.int64))
    for options, allowed in (
        ({"top_k": 2}, {1, 2}),
        ({"top_p": 0.65}, {1, 2}),
        ({"top_p": 0.75}, {1, 2, 3}),
        ({"top_p": 0.01}, {1}),
        ({"top_k": 3, "top_p": 0.5}, {1, 2}),
    ):
        tokens, logprobs = sample(probs.log().expand(n, -1), draws, 1.0, **options)
        assert set(tokens.tolist()) == allowed, options
        np.testing.assert_allclose(logprobs, np.log(probs.numpy())[tokens], rtol=1e-6)
