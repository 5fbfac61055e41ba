"""Where digits are lost: peaked rows, logits with a common offset, a policy close to its reference.

The rule: at most twice the error of plain torch in the same dtype, against float64.
"""

import pytest
import torch

from lamer_kernels import linear_logprob, linear_policy_loss
from lamer_kernels.head.logprob import linear_logprob_ref

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
TRITON = pytest.param("triton", marks=pytest.mark.gpu if CUDA else pytest.mark.interpret)
FAST = [TRITON] if CUDA else ["cpu", TRITON]
NUM_ROWS = 40


def gradients(function, dtype, gap, offset, target, **options):
    """Outputs, and their gradients by a row's larger logit; the two are ``gap`` apart, both + ``offset``."""
    bias = torch.full((2,), offset, dtype=torch.float64 if dtype is torch.float64 else torch.float32)
    hidden = torch.stack([gap, torch.zeros_like(gap)], 1).to(DEVICE, dtype).requires_grad_()
    out = function(
        hidden, torch.eye(2, dtype=dtype, device=DEVICE), torch.full((len(gap),), target, device=DEVICE),
        bias=bias.to(DEVICE), **options,
    )  # fmt: skip
    grads = [torch.autograd.grad(x.sum(), hidden, retain_graph=True)[0][:, 0] for x in out]
    return torch.stack([*out, *grads]).double()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("target", [0, 1], ids=["peak", "tail"])
@pytest.mark.parametrize("offset", [0.0, -320.0, 2.0**14])
def test_peaked_rows(offset, target, backend):
    gap = 2 + 10 * torch.rand(NUM_ROWS, generator=torch.Generator().manual_seed(0))
    gap = (gap + offset) - offset  # the offset costs digits of the logits themselves: not the subject here
    truth = gradients(linear_logprob_ref, torch.float64, gap, offset, target)
    plain = gradients(linear_logprob_ref, torch.float32, gap, offset, target)
    options = {"entropy": True, "sum_sq": True, "backend": backend}
    ours = gradients(linear_logprob, torch.float32, gap, offset, target, **options)
    error, plain_error = (((x - truth) / truth).square().mean(1).sqrt() for x in (ours, plain))
    assert (error <= 2 * plain_error).all(), (error, plain_error)


@pytest.mark.parametrize("backend", FAST)
def test_entropy_gradient_has_all_digits(backend):
    gap = torch.tensor([8.0, 10.0])
    truth, ours = (
        gradients(function, dtype, gap, 0.0, 0, **options)[-2]
        for function, dtype, options in (
            (linear_logprob_ref, torch.float64, {}),
            (linear_logprob, torch.float32, {"entropy": True, "sum_sq": True, "backend": backend}),
        )
    )
    torch.testing.assert_close(ours, truth, rtol=1e-6, atol=0)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("distance", [1e-6, 1e-4, 1e-2, 0.5, 3.0])
def test_k3_is_exact_and_never_negative(distance, backend):
    g = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(NUM_ROWS, 4, generator=g), torch.randn(5, 4, generator=g)
    targets = torch.randint(5, (NUM_ROWS,), generator=g).to(DEVICE)
    hidden, weight = hidden.to(DEVICE).requires_grad_(), weight.to(DEVICE)
    zeros = torch.zeros(NUM_ROWS, device=DEVICE)
    logprobs = linear_logprob_ref(hidden, weight, targets).logprobs.detach()
    ref = logprobs + distance * torch.randn(NUM_ROWS, generator=g).to(DEVICE)
    out = linear_policy_loss(
        hidden, weight, targets, None, zeros, ref_logprobs=ref, kl_coef=1.0, backend=backend
    )
    gap = (ref - out.logprobs).double()
    truth = torch.expm1(gap) - gap
    assert (out.kl >= 0).all()
    # the CPU path subtracts: its error is that of one rounding of the gap
    atol = 0 if backend == "triton" else 2e-7 * distance
    torch.testing.assert_close(out.kl.double(), truth, rtol=3e-6, atol=atol)

    (grad,) = torch.autograd.grad(out.loss, hidden)
    head = linear_logprob_ref(hidden.double(), weight.double(), targets)
    (expected,) = torch.autograd.grad(head.logprobs, hidden, -torch.expm1(gap))
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-6 * distance)
