"""clip_cov and kl_cov: values and gradients by the formula, through the head, on every back end."""

import pytest
import torch

from lamer_kernels import Covariance, linear_logprob, linear_policy_loss, policy_loss

L = 60
COMMON = {"clip_low": 0.1, "clip_high": 0.15}


def case(dtype=torch.float64):
    g = torch.Generator().manual_seed(3)
    new = (-0.05 - 3 * torch.rand(L, generator=g)).to(dtype)
    old = (new + 0.3 * torch.randn(L, generator=g).to(dtype)).clamp(max=-0.01)
    advantages = torch.randn(L, generator=g).to(dtype)
    weights = torch.rand(L, generator=g).to(dtype)
    weights[::7] = 0
    return new, old, advantages, weights


def covariances(new, advantages, weights):
    at = weights != 0
    return (advantages - advantages[at].mean()) * (new - new[at].mean())


def by_formula(kind, cov, new, old, advantages, weights):
    """Autograd of the papers' losses; of clip_cov all candidates are taken, so that no draw matters."""
    x = new.clone().requires_grad_()
    ratio, values, at = (x - old).exp(), covariances(new, advantages, weights), weights != 0
    count = int(at.sum())
    if kind == "clip_cov":
        free, bound = -advantages * ratio, -advantages * ratio.clamp(0.9, 1.15)
        chosen = at & ~(bound > free) & (values > cov.low) & (values < cov.high)
        loss = torch.maximum(free, bound) * ~chosen
    else:
        chosen = torch.zeros(L, dtype=torch.bool)
        places = at.nonzero()[:, 0]
        chosen[places[values[places].topk(max(1, int(cov.share * count))).indices]] = True
        loss = -advantages * ratio + torch.where(chosen, cov.coef * (x - old).abs(), 0.0)
    total = (weights * loss).sum()
    return total.detach(), torch.autograd.grad(total, x)[0], chosen


ALL = {"clip_cov": Covariance(share=1.0, low=0.2, high=2.0), "kl_cov": Covariance(share=0.2, coef=0.7)}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("backend", ["cpu", "reference", pytest.param("triton", marks=pytest.mark.interpret)])
def test_value_and_gradient(kind, backend):
    dtype = torch.float32 if backend == "triton" else torch.float64
    new, old, advantages, weights = case(dtype)
    x = new.clone().requires_grad_()
    out = policy_loss(
        x, old, advantages, token_weights=weights, loss=kind, covariance=ALL[kind], backend=backend, **COMMON
    )
    value, gradient, chosen = by_formula(kind, ALL[kind], new, old, advantages, weights)
    assert 3 < int(chosen.sum()) < L / 2
    torch.testing.assert_close(out.loss.detach(), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(out.loss, x)[0], gradient, rtol=1e-5, atol=1e-6)
    assert bool(out.clipped[chosen].all())


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("into", [False, True])
@pytest.mark.parametrize("backend", ["cpu", "reference", pytest.param("triton", marks=pytest.mark.interpret)])
def test_through_the_head(kind, into, backend):
    g = torch.Generator().manual_seed(4)
    hidden, weight = torch.randn(90, 16, generator=g), 0.4 * torch.randn(40, 16, generator=g)
    targets, idx = torch.randint(40, (L,), generator=g), torch.randperm(90, generator=g)[:L]
    temperature = 0.5 + torch.rand(L, generator=g)
    targets[5] = -100
    _, _, advantages, weights = case(torch.float32)
    head = {"token_idx": idx, "temperature": temperature}
    before = linear_logprob(hidden, weight, targets, **head).logprobs
    old = (before + 0.3 * torch.randn(L, generator=g)).clamp(max=-0.01)
    found = {}
    for way in ("head", "logprobs"):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(way == "logprobs" or not into)
        out = torch.zeros(40, 16) if into and way == "head" else None
        if way == "head":
            loss = linear_policy_loss(
                h, w, targets, old, advantages, token_weights=weights, loss=kind, covariance=ALL[kind],
                dweight_out=out, backend=backend, **head, **COMMON,
            ).loss  # fmt: skip
        else:
            logprobs = linear_logprob(h, w, targets, **head).logprobs
            present = torch.where(targets == -100, 0.0, weights)
            loss = policy_loss(
                logprobs, old, advantages, token_weights=present, loss=kind, covariance=ALL[kind], **COMMON
            ).loss
        loss.backward()
        found[way] = (loss.detach(), h.grad, w.grad if out is None else out)
    for ours, theirs in zip(found["head"], found["logprobs"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_draw_is_the_seeds():
    new, old, advantages, weights = case()

    def drawn(seed):
        few = Covariance(share=0.05, low=0.05, high=5.0, seed=seed)
        out = policy_loss(new, old, advantages, token_weights=weights, loss="clip_cov", covariance=few)
        plain = policy_loss(new, old, advantages, token_weights=weights)
        return out.clipped & ~plain.clipped

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert int(drawn(1).sum()) == int(0.05 * int((weights != 0).sum()))
    state = torch.random.get_rng_state()
    drawn(3)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", ALL)
def test_no_tokens_and_no_old_logprobs(kind):
    nothing = torch.zeros(0)
    assert policy_loss(nothing, nothing, nothing, loss=kind).loss == 0
    new, _, advantages, weights = case()
    x = new.clone().requires_grad_()
    on_policy = policy_loss(
        x, None, advantages, token_weights=weights, loss="kl_cov", covariance=ALL["kl_cov"]
    )
    on_policy.loss.backward()
    torch.testing.assert_close(x.grad, -advantages * weights)  # |log ratio| has slope 0 at 0
    none = policy_loss(new, new, advantages, token_weights=torch.zeros(L).double(), loss=kind)
    assert none.loss == 0 and not none.clipped.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"covariance": Covariance()},
            "covariance goes with loss 'clip_cov' or 'kl_cov', got .* with loss 'clip'",
        ),
        ({"loss": "clip_cov", "covariance": 3}, "covariance must be a Covariance, got 3"),
        ({"loss": "clip_cov", "dual_clip": 3.0}, "dual_clip goes with loss 'clip', got loss 'clip_cov'"),
        (
            {"loss": "kl_cov", "covariance": Covariance(share=0.0)},
            "covariance.share must lie in .0, 1., got 0.0",
        ),
        (
            {"loss": "clip_cov", "covariance": Covariance(low=3, high=2)},
            "low 3 is not below covariance.high 2",
        ),
    ],
)
def test_what_cannot_be_is_told(options, message):
    new, old, advantages, _ = case()
    with pytest.raises((ValueError, TypeError), match=message):
        policy_loss(new, old, advantages, **options)
    hidden, weight = torch.zeros(L, 4), torch.zeros(9, 4)
    with pytest.raises((ValueError, TypeError), match=message):
        linear_policy_loss(
            hidden, weight, torch.zeros(L, dtype=torch.long), old.float(), advantages.float(), **options
        )
