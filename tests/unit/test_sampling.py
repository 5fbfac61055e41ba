"""Drawing from a distribution by counters: right frequencies, right cuts, nothing shared between requests."""

import numpy as np
import pytest
import torch

from lamer_fast.rng import mix, uniforms
from lamer_fast.samplers import sampling
from lamer_fast.samplers.protocol import Sampling
from lamer_fast.samplers.sampling import sample


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
    tokens, logprobs = sample(probs.log().expand(n, -1), draws, Sampling())
    counts = np.bincount(tokens, minlength=5)
    assert counts[1] == counts[4] == 0
    np.testing.assert_allclose(counts / n, probs.numpy(), atol=4 * 0.5 / np.sqrt(n))
    np.testing.assert_allclose(logprobs, probs.log().numpy()[tokens], rtol=1e-6)


def test_the_ends_of_the_range_hit_possible_tokens():
    logprobs = torch.tensor([[0.0, 0.25, 0.75, 0.0]]).log().expand(2, -1)
    tokens, _ = sample(logprobs, np.array([0.0, 1 - 2.0**-23], np.float32), Sampling())
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
        tokens, logprobs = sample(probs.log().expand(n, -1), draws, Sampling(**options))
        assert set(tokens.tolist()) == allowed, options
        np.testing.assert_allclose(logprobs, np.log(probs.numpy())[tokens], rtol=1e-6)


def test_fixed_point_draws_what_float64_draws(monkeypatch):
    monkeypatch.setattr(sampling, "MAX_FIXED", 5000)  # some rows at a time
    g = torch.Generator().manual_seed(0)
    logprobs = torch.log_softmax(torch.randn(400, 300, generator=g) * 4, dim=-1)
    logprobs[:, ::7] = -torch.inf
    weights = logprobs.exp()
    draws = torch.from_numpy(uniforms(np.arange(400, dtype=np.uint64), np.zeros(400, np.int64)))
    tokens = sampling._invert_in_fixed_point(weights, draws)
    cumulative = weights.double().cumsum(-1)
    targets = draws.double()[:, None] * cumulative[:, -1:]
    expected = torch.searchsorted(cumulative, targets, right=True)
    near = (cumulative - targets).abs().min(-1).values < 300 * 2.0**-39  # truncation may move a draw across
    assert near.sum() < 4
    assert torch.equal(tokens[~near], expected[~near])
    assert not (tokens % 7 == 0).any()


def test_fixed_point_reaches_both_ends_and_no_overflow():
    weights = torch.tensor([[0.0, 0.25, 0.75, 0.0], [0.0, 1.0, 2.0**-24, 0.0]])
    for draw, expected in ((0.0, [1, 1]), (1 - 2.0**-23, [2, 1])):
        tokens = sampling._invert_in_fixed_point(weights, torch.full((2,), draw))
        assert tokens[:, 0].tolist() == expected
    certain = torch.full((1, 4), 0.2500001)  # a sum a little above 1
    assert sampling._invert_in_fixed_point(certain, torch.tensor([1 - 2.0**-23])).tolist() == [[3]]


def test_integers_do_not_feel_the_order_of_a_sum():
    weights = torch.softmax(torch.randn(50, 2000, generator=torch.Generator().manual_seed(0)) * 5, dim=-1)
    fixed = sampling._fixed(weights)
    blocks = fixed.view(50, 40, 50)  # as a parallel scan adds
    by_blocks = (blocks.cumsum(-1) + (blocks.sum(-1).cumsum(-1) - blocks.sum(-1))[..., None]).flatten(1)
    assert torch.equal(by_blocks, fixed.cumsum(-1))
    in_float = weights.view(50, 40, 50)
    rounded = (in_float.cumsum(-1) + (in_float.sum(-1).cumsum(-1) - in_float.sum(-1))[..., None]).flatten(1)
    assert not torch.equal(rounded, weights.cumsum(-1))  # which floats do


def test_temperature_comes_before_the_cut():
    """At temperature 0.5 the likeliest of (0.5, 0.3, 0.2) has 0.66 of the mass: alone it is top_p = 0.6."""
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(2, -1)
    draws = np.array([0.0, 1 - 2.0**-23], np.float32)
    assert sample(logits, draws, Sampling(top_p=0.6))[0].tolist() == [0, 1]
    tokens, logprobs = sample(logits, draws, Sampling(temperature=0.5, top_p=0.6))
    assert tokens.tolist() == [0, 0]
    np.testing.assert_allclose(np.exp(logprobs), 0.25 / 0.38, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}],
)
def test_sampling_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)
