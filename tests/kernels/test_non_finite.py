"""What is left out adds exactly 0, whatever stands there: NaN, infinities, ratios that overflow."""

import itertools

import pytest
import torch

from lamer_kernels import linear_logprob, linear_policy_loss, policy_loss
from lamer_kernels.head.policy.terms import OF_SEGMENTS
from tests.kernels.head import make_inputs

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
TRITON = pytest.param("triton", marks=pytest.mark.gpu if CUDA else pytest.mark.interpret)
FAST = [TRITON] if CUDA else ["cpu", TRITON]
BACKENDS = ["reference", *FAST]
CU_SEGMENTS = torch.tensor([0, 3, 5, 7])
LOSSES = {
    "clip": {},
    "dual clip": {"dual_clip": 1.5},
    "gspo": {"loss": "gspo"},
    "cispo": {"loss": "cispo"},
    "reinforce": {"loss": "reinforce"},
    "gspo_token": {"loss": "gspo_token"},
    "gmpo": {"loss": "gmpo"},
    "sapo": {"loss": "sapo"},
    "dppo": {"loss": "dppo"},
    "dppo_kl": {"loss": "dppo_kl"},
}
FACTORS = ("token_weights", "importance_weights", "advantages")
OUT = torch.tensor([3, 4])  # the tokens that are left out: a segment of its own


def token_data(dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    data = {name: torch.rand(7, generator=g) + 0.5 for name in FACTORS}
    return {name: x.to(dtype) for name, x in data.items()}


def select(data, rows):
    return {name: x[rows].to(DEVICE) for name, x in data.items()}


def segments(switches, cu):
    return {"cu_segments": cu.to(DEVICE)} if switches.get("loss") in OF_SEGMENTS else {}


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("factor", FACTORS)
def test_policy_loss_without_the_tokens(loss, factor, backend):
    switches, data = LOSSES[loss], token_data()
    data[factor][OUT] = 0
    data["old_logprobs"] = torch.full((7,), -1.0)
    logprobs = torch.linspace(-2, -0.5, 7)
    logprobs[3], data["old_logprobs"][4] = torch.nan, -200.0  # exp overflows
    rows = torch.tensor([0, 1, 2, 5, 6])
    found = []
    for keep, cu in ((torch.arange(7), CU_SEGMENTS), (rows, torch.tensor([0, 3, 5]))):
        x = logprobs[keep].to(DEVICE).requires_grad_()
        out = policy_loss(x, **select(data, keep), **switches, **segments(switches, cu), backend=backend)
        out.loss.backward()
        found.append((out.loss.detach(), x.grad))
    (loss_all, grad_all), (loss_few, grad_few) = found
    assert not grad_all[OUT].any()
    torch.testing.assert_close(loss_all, loss_few)
    torch.testing.assert_close(grad_all[rows], grad_few)


def without_tokens():
    for loss, factor, compact in itertools.product(LOSSES, FACTORS, ("host", "data", "none")):
        if loss in ("clip", "gspo") or (factor, compact) == ("token_weights", "none"):
            yield loss, factor, compact


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("loss", "factor", "compact"), list(without_tokens()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_linear_policy_loss_without_the_tokens(loss, factor, compact, dtype, backend):
    switches, data = LOSSES[loss], token_data()
    data[factor][OUT] = 0
    extra = {"entropy_coef": 0.1} if factor == "token_weights" else {}
    inputs = make_inputs(T=7, H=4, V=11, L=None, bias=True, seed=2)
    data["old_logprobs"] = torch.full((7,), -2.0)
    data["old_logprobs"][4] = -200.0
    rows = torch.tensor([0, 1, 2, 5, 6])
    found = []
    for keep, cu in ((torch.arange(7), CU_SEGMENTS), (rows, torch.tensor([0, 3, 5]))):
        own = inputs.to(dtype, DEVICE)
        hidden = own.hidden.detach()
        hidden[3] = torch.nan
        hidden[4, 0] = torch.inf
        hidden = hidden[keep].requires_grad_()
        out = linear_policy_loss(
            hidden, own.weight, own.targets[keep], bias=own.options["bias"], compact=compact, backend=backend,
            **select(data, keep), **switches, **segments(switches, cu), **extra,
        )  # fmt: skip
        leaves = [hidden, own.weight, own.options["bias"]]
        found.append([out.loss.detach(), *torch.autograd.grad(out.loss, leaves)])
    every, few = found
    assert not every[1][OUT].any()
    every[1] = every[1][rows]
    assert all(x.isfinite().all() for x in few)
    torch.testing.assert_close(every, few)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["old_logprobs", "advantages", "ref_logprobs", "importance_weights"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_token_data_under_weight_zero_may_be_anything(value, name, backend):
    inputs = make_inputs(T=5, H=4, V=11, L=None).to(torch.float32, DEVICE)
    data = {key: torch.full((5,), -2.0) for key in ("old_logprobs", "ref_logprobs")}
    data |= {key: torch.ones(5) for key in FACTORS}
    data["token_weights"][2] = 0
    found = []
    for x in (1.0, value):
        data[name][2] = x
        out = linear_policy_loss(
            inputs.hidden, inputs.weight, inputs.targets, kl_coef=0.1, entropy_coef=0.1, compact="none",
            backend=backend, **select(data, slice(None)),
        )  # fmt: skip
        found.append([out.loss.detach(), *torch.autograd.grad(out.loss, inputs.leaves())])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("loss", ["clip", "gspo", "cispo"])
def test_a_clipped_token_may_overflow(loss, backend):
    logprobs = torch.tensor([-1.0, -1.0], device=DEVICE, requires_grad=True)
    old_logprobs = torch.tensor([-100.0, -1.0], device=DEVICE)
    switches = {"loss": loss} | segments({"loss": loss}, torch.tensor([0, 1, 2]))
    out = policy_loss(logprobs, old_logprobs, torch.ones(2, device=DEVICE), backend=backend, **switches)
    out.loss.backward()
    assert out.loss.isfinite()
    assert logprobs.grad.tolist() == pytest.approx([-1.2 if loss == "cispo" else 0.0, -1.0])


@pytest.mark.parametrize("backend", FAST)  # autograd multiplies 0 by NaN
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_log_prob_that_nobody_uses(dtype, frozen, backend):
    inputs = make_inputs(T=5, H=4, V=11, L=None).to(dtype, DEVICE)
    rows = torch.tensor([0, 2, 3, 4])
    inputs.weight.requires_grad_(not frozen)
    found = []
    for keep in (torch.arange(5), rows):
        hidden = inputs.hidden.detach().clone()
        hidden[1] = torch.nan
        hidden = hidden[keep].requires_grad_()
        out = linear_logprob(hidden, inputs.weight, inputs.targets[keep], entropy=True, backend=backend)
        used = (keep != 1).to(DEVICE)
        total = out.logprobs[used].sum() + 0.5 * out.entropy[used].sum()
        found.append(torch.autograd.grad(total, [hidden] if frozen else [hidden, inputs.weight]))
    every, few = found
    assert not every[0][1].any()
    torch.testing.assert_close((every[0][rows], *every[1:]), few)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_float16_logit_may_overflow_to_minus_infinity(backend):
    hidden = torch.tensor([[200.0, 0.0], [1.0, 1.0]], dtype=torch.float16, device=DEVICE, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [-400.0, 0.0], [0.0, 1.0]], dtype=torch.float16, device=DEVICE)
    targets = torch.tensor([0, 2], device=DEVICE)
    out = linear_logprob(hidden, weight, targets, entropy=True, sum_sq=True, backend=backend)
    torch.testing.assert_close(
        out.entropy.cpu(), torch.tensor([1.0, 2.0]).log()
    )  # one entry, and two equal ones
    total = out.logprobs.sum() + out.entropy.sum() + out.sum_sq.sum()
    assert torch.autograd.grad(total, hidden)[0].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_removed_entry_has_probability_zero(dtype, backend):
    inputs = make_inputs(T=4, H=4, V=11, L=None, bias=True).to(dtype, DEVICE)
    bias = inputs.options["bias"].detach()
    bias[2] = -torch.inf
    bias.requires_grad_()
    targets = torch.tensor([2, 1, 2, 3], device=DEVICE)
    out = linear_logprob(
        inputs.hidden, inputs.weight, targets, bias=bias, entropy=True, sum_sq=True, backend=backend
    )
    assert out.logprobs[[0, 2]].tolist() == [-torch.inf] * 2
    left = torch.tensor([i for i in range(11) if i != 2], device=DEVICE)
    shorter = linear_logprob(
        inputs.hidden, inputs.weight[left], torch.tensor([0, 1, 0, 2], device=DEVICE), bias=bias[left],
        entropy=True, sum_sq=True, backend=backend,
    )  # fmt: skip
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(out.entropy, shorter.entropy, **tolerance)
    torch.testing.assert_close(out.sum_sq, shorter.sum_sq, **tolerance)
    total = out.logprobs[[1, 3]].sum() + out.entropy.sum() + out.sum_sq.sum()
    grads = torch.autograd.grad(total, [inputs.hidden, inputs.weight, bias])
    assert all(g.isfinite().all() for g in grads) and grads[2][2] == 0

    loss = linear_policy_loss(
        inputs.hidden, inputs.weight, targets, torch.full((4,), -2.0, device=DEVICE),
        torch.ones(4, device=DEVICE), bias=bias, entropy_coef=0.1, backend=backend,
    )  # fmt: skip
    assert loss.ratio[[0, 2]].tolist() == [0.0, 0.0] and loss.loss.isfinite()
    grads = torch.autograd.grad(loss.loss, [inputs.hidden, inputs.weight, bias])
    assert all(g.isfinite().all() for g in grads)
