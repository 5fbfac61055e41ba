"""policy_loss and token_weights: against the reference, and by hand."""

import math

import pytest
import torch

from lamer_kernels import policy_loss, token_weights
from lamer_kernels.head.policy.terms import OF_SEGMENTS
from tests.kernels.test_linear_policy_loss import CU_SEGMENTS, EXTRAS, LOSSES, token_options

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TRITON = pytest.mark.gpu if DEVICE == "cuda" else pytest.mark.interpret


def make_inputs(dtype=torch.float64, num_tokens=23):
    g = torch.Generator().manual_seed(0)
    logprobs = (-3 * torch.rand(num_tokens, generator=g)).to(dtype).requires_grad_()
    old_logprobs = logprobs.detach() + 0.3 * torch.randn(num_tokens, generator=g)
    entropy = torch.rand(num_tokens, generator=g).to(dtype).requires_grad_()
    return logprobs, old_logprobs, torch.randn(num_tokens, generator=g).to(dtype), entropy


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_reference(loss, extra, dtype):
    options = LOSSES[loss] | token_options(EXTRAS[extra], dtype)
    results = []
    for backend in ("auto", "reference"):
        logprobs, old_logprobs, advantages, entropy = make_inputs(dtype)
        out = policy_loss(logprobs, old_logprobs, advantages, entropy=entropy, backend=backend, **options)
        grads = torch.autograd.grad(out.loss * 1.7, (logprobs, entropy), allow_unused=True)
        results.append([*out, *(torch.zeros_like(logprobs) if g is None else g for g in grads)])
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("loss", [name for name, x in LOSSES.items() if x.get("loss") not in OF_SEGMENTS])
@pytest.mark.parametrize("extra", EXTRAS)
@TRITON
def test_kernel_matches_reference(loss, extra):
    """With and without old log-probabilities and entropy, which a kernel may lack."""
    options = LOSSES[loss] | token_options(EXTRAS[extra], torch.float32)
    options = {name: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for name, x in options.items()}
    for has_old in (True, False):
        results = []
        for backend in ("triton", "reference"):
            leaves = [x.detach().to(DEVICE) for x in make_inputs(torch.float32)]
            logprobs, old, advantages, entropy = leaves
            wanted = [logprobs.requires_grad_()]
            more = {"entropy": entropy.requires_grad_()} if "entropy_coef" in options else {}
            out = policy_loss(
                logprobs, old if has_old else None, advantages, backend=backend, **more, **options
            )
            grads = torch.autograd.grad(out.loss * 1.7, [*wanted, *more.values()])
            results.append([*(x for x in out if x is not None), *grads])
        for x, y in zip(*results, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_by_hand():
    # ratios 1.5, 0.5, 1.5, 0.5 under clip 0.2/0.2: the clip acts where it makes the objective smaller
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5], dtype=torch.float64)
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    logprobs = ratio.log().requires_grad_()
    out = policy_loss(logprobs, torch.zeros_like(ratio), advantages)
    out.loss.backward()
    assert out.clipped.tolist() == [True, False, False, True]
    torch.testing.assert_close(out.loss.detach(), torch.tensor(-1.2 - 0.5 + 1.5 + 0.8, dtype=torch.float64))
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.0, -0.5, 1.5, 0.0], dtype=torch.float64))


def test_gspo_ratio_is_the_geometric_mean_of_the_segment():
    logprobs, old_logprobs, advantages, _ = make_inputs()
    out = policy_loss(logprobs, old_logprobs, advantages, loss="gspo", cu_segments=CU_SEGMENTS)
    for start, end in ((0, 4), (4, 5), (5, 14), (14, 23)):
        mean = (logprobs - old_logprobs)[start:end].mean().exp().detach()
        torch.testing.assert_close(out.ratio[start:end], mean.expand(end - start))


def test_zero_advantage_under_an_overflowing_ratio():
    logprobs = torch.zeros(2, requires_grad=True)
    out = policy_loss(logprobs, torch.tensor([-200.0, 0.0]), torch.tensor([0.0, 1.0]))
    out.loss.backward()
    assert out.ratio[0].isinf() and out.loss == -1 and logprobs.grad.tolist() == [0.0, -1.0]


def clamped_loss(logprobs, old_logprobs, advantages, ref_logprobs):
    """Written with torch.clamp throughout, whose gradient is the definition."""
    ratio = (logprobs - old_logprobs).clamp(-20, 20).exp()
    surrogate = torch.maximum(-ratio * advantages, -ratio.clamp(0.8, 1.2) * advantages)
    gap = (ref_logprobs - logprobs).clamp(-20, 20)
    return surrogate, (gap.exp() - 1 - gap).clamp(-10, 10)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("far", [0.1, 1.0, 2.0, 3.0, 19.0, 30.0, 800.0, float("inf")])
def test_clamps_are_those_of_torch(backend, far):
    logprobs = torch.full((4,), -1.0, dtype=torch.float64, requires_grad=True)
    other = logprobs.detach() + far * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    surrogate, kl = clamped_loss(logprobs, other, advantages, other)
    loss = (surrogate + 0.5 * kl).sum()
    (grad,) = torch.autograd.grad(loss, logprobs)
    out = policy_loss(
        logprobs, other, advantages, ref_logprobs=other, kl_coef=0.5, kl_clip=(20, 10), log_ratio_clip=20,
        backend=backend,
    )  # fmt: skip
    (ours,) = torch.autograd.grad(out.loss, logprobs)
    torch.testing.assert_close(out.kl, kl.detach())
    torch.testing.assert_close(out.loss, loss)
    torch.testing.assert_close(ours, grad)


def test_a_clamp_of_the_estimate_alone():
    logprobs = torch.zeros(2, requires_grad=True)
    ref = torch.tensor([1000.0, 0.5])  # exp overflows
    for backend in ("reference", "cpu"):
        out = policy_loss(
            logprobs, None, torch.zeros(2), ref_logprobs=ref, kl_coef=1.0, kl_clip=(float("inf"), 10.0),
            backend=backend,
        )  # fmt: skip
        (grad,) = torch.autograd.grad(out.loss, logprobs)
        assert out.kl[0] == 10 and grad[0] == 0 and grad[1] == pytest.approx(1 - math.exp(0.5))


def test_compiles_without_a_graph_break():
    logprobs, old_logprobs, advantages, _ = make_inputs(torch.float32)
    loss = lambda x: policy_loss(x, old_logprobs, advantages, loss="clip").loss  # noqa: E731
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    eager_grad, compiled_grad = (torch.autograd.grad(f(logprobs), logprobs) for f in (loss, compiled))
    torch.testing.assert_close(eager_grad, compiled_grad)


def test_token_weights():
    mask = torch.tensor([True, True, False, True, False, False, True])
    cu = torch.tensor([0, 3, 4, 6, 7])  # the third sequence has no loss token
    assert token_weights("token_mean", mask).tolist() == pytest.approx([0.25, 0.25, 0, 0.25, 0, 0, 0.25])
    third = 1 / 3
    assert token_weights("sequence_mean", mask, cu_sequences=cu).tolist() == pytest.approx(
        [third / 2, third / 2, 0, third, 0, 0, third]
    )
    assert token_weights("constant", mask, constant=8.0).tolist() == [0.125, 0.125, 0, 0.125, 0, 0, 0.125]
    assert not token_weights("token_mean", torch.zeros(3, dtype=torch.bool)).any()
    assert token_weights("sequence_mean", mask[:0], cu_sequences=torch.tensor([0, 0])).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("mean", torch.ones(3, dtype=torch.bool)), {}, "kind must be one of"),
        (("token_mean", torch.ones(3)), {}, "loss_mask must be bool, got float32"),
        (
            ("token_mean", torch.ones(3, dtype=torch.bool)),
            {"constant": 3.0},
            "constant goes with kind 'constant'",
        ),
        (
            ("constant", torch.ones(3, dtype=torch.bool)),
            {"constant": 0.0},
            r"constant must lie in \(0, inf\), got 0.0",
        ),
        (
            ("sequence_mean", torch.ones(3, dtype=torch.bool)),
            {},
            "cu_sequences goes with kind 'sequence_mean'",
        ),
        (
            ("sequence_mean", torch.ones(3, dtype=torch.bool)),
            {"cu_sequences": torch.tensor([0, 2]), "validate": True},
            "cu_sequences must run from 0 to 3, got 0 to 2",
        ),
    ],
)
def test_token_weights_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        token_weights(*arguments, **options)


def test_policy_loss_bad_input():
    logprobs, old_logprobs, advantages, _ = make_inputs()
    with pytest.raises(ValueError, match=r"entropy_coef 0\.1 needs entropy, got None"):
        policy_loss(logprobs, old_logprobs, advantages, entropy_coef=0.1)
    with pytest.raises(ValueError, match=r"old_logprobs must have shape \(23\), got \(22,\)"):
        policy_loss(logprobs, old_logprobs[1:], advantages)
    with pytest.raises(ValueError, match="logprobs must be float32 or float64, got bfloat16"):
        policy_loss(logprobs.bfloat16(), old_logprobs, advantages)
