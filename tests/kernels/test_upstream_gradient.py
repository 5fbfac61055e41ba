"""The loss head's gradients are computed before the upstream one is known: what that may not cost.

A loss scaler multiplies the loss by 65536, accumulation divides it; 16 bits have little room for either.
"""

import pytest
import torch

from lamer_kernels import linear_policy_loss, policy_loss, token_weights
from tests.kernels.head import make_inputs, relative_error

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
TRITON = pytest.param("triton", marks=pytest.mark.gpu if CUDA else pytest.mark.interpret)
FAST = [TRITON] if CUDA else ["cpu", TRITON]


def run(inputs, scale, weight, switches, *, backend, num_tokens=12, head_dtype=None):
    hidden = inputs.hidden
    head = inputs.weight.detach().to(head_dtype or hidden.dtype).requires_grad_()
    acc = inputs.old_logprobs.dtype
    out = linear_policy_loss(
        hidden, head, inputs.targets, inputs.old_logprobs, inputs.advantages, backend=backend,
        token_weights=torch.full((num_tokens,), weight, dtype=acc, device=DEVICE), **switches,
    )  # fmt: skip
    return [out.loss.detach(), *torch.autograd.grad(out.loss * scale, [hidden, head])]


SWITCHES = {
    "clip": {"clip_low": 1.0, "clip_high": 9.0},
    "gspo": {"loss": "gspo", "clip_low": 1.0, "clip_high": 9.0, "cu_segments": torch.tensor([0, 5, 12])},
    "reinforce": {"loss": "reinforce", "entropy_coef": 0.1},
}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("loss", SWITCHES)
@pytest.mark.parametrize(
    ("weight", "scale"), [(1e-3, 65536.0), (2.0**-16, 4096.0), (2.0**-22, 65536.0), (1.0, 1 / 3)], ids=str
)
@pytest.mark.parametrize("head_dtype", [torch.float16, torch.float32], ids=str)
def test_float16_has_the_range_that_a_scaled_loss_has(head_dtype, weight, scale, loss, backend):
    """Plain float16 puts the scale into the gradient before it is rounded."""
    inputs = make_inputs(T=12, H=8, V=300, L=None, logit_scale=2.0)
    switches = {k: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for k, x in SWITCHES[loss].items()}
    truth = run(inputs.to(torch.float64, DEVICE), scale, weight, switches, backend="reference")
    half = inputs.to(torch.float16, DEVICE)
    plain = run(half, scale, weight, switches, backend="reference", head_dtype=head_dtype)
    ours = run(half, scale, weight, switches, backend=backend, head_dtype=head_dtype)
    for x, y, t in zip(ours, plain, truth, strict=True):
        assert x.isfinite().all() and x.dtype is y.dtype
        assert relative_error(x, t) <= 2 * relative_error(y, t) + 5e-4  # one rounding


@pytest.mark.parametrize("backend", FAST)
def test_a_tiny_weight_in_float16_adds_to_dweight_out(backend):
    inputs = make_inputs(T=12, H=8, V=300, L=None).to(torch.float16, DEVICE)
    options = {"token_weights": torch.full((12,), 2.0**-20, device=DEVICE), "backend": backend}
    arguments = (inputs.hidden, inputs.weight, inputs.targets, inputs.old_logprobs, inputs.advantages)
    out = linear_policy_loss(*arguments, **options)
    _, dweight = torch.autograd.grad(out.loss * 2.0**20, [inputs.hidden, inputs.weight])
    start = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    total = start * 2.0**-20
    linear_policy_loss(*arguments, dweight_out=total, **options)
    torch.testing.assert_close((total * 2.0**20 - start), dweight.float(), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [1 / 3, 0.7, 1000.1])
def test_bf16_gradients_are_rounded_once_after_the_scale(scale):
    """The scale is not rounded to bf16 first, which would move every gradient by the same 0.2 %."""
    inputs = make_inputs(T=24, H=8, V=300, L=None)
    truth = run(inputs.to(torch.float64), scale, 1.0, {}, backend="reference", num_tokens=24)
    ours = run(inputs.to(torch.bfloat16), scale, 1.0, {}, backend="cpu", num_tokens=24)
    unscaled = run(inputs.to(torch.bfloat16), 1.0, 1.0, {}, backend="cpu", num_tokens=24)
    for x, once, t in zip(ours[1:], unscaled[1:], truth[1:], strict=True):
        assert torch.equal(x, (once.float() * scale).bfloat16())
        t = t.float()
        assert abs(float((x.float() * t).sum() / (t * t).sum()) - 1) < 1e-3


def test_gradients_larger_than_a_block_are_scaled_whole():
    hidden = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    weight = torch.randn(9000, 300, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    arguments = (hidden, weight, torch.arange(5), None, torch.ones(5))
    one, three = (
        torch.autograd.grad(linear_policy_loss(*arguments, loss="reinforce").loss * scale, [hidden, weight])
        for scale in (1.0, 3.0)
    )
    assert all(torch.equal(y, (x.float() * 3).bfloat16()) for x, y in zip(one, three, strict=True))


def test_token_weights_of_a_float64_loss():
    logprobs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    old_logprobs, advantages = logprobs.detach() + 0.1, torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    weights = token_weights("token_mean", torch.ones(3, dtype=torch.bool))

    def loss(x):
        return policy_loss(x, old_logprobs, advantages, token_weights=weights).loss

    ratio = (logprobs - old_logprobs).exp().detach()
    torch.testing.assert_close(loss(logprobs).detach(), -(ratio * advantages).mean(), rtol=1e-15, atol=0)
    assert torch.autograd.gradcheck(loss, (logprobs,))
