"""linear_logprob on the CPU path: against the reference, in float64 and by the error-ratio rule."""

import itertools
import math

import pytest
import torch

from lamer_kernels import linear_logprob
from lamer_kernels.head.logprob import linear_logprob_ref, op
from tests.kernels.head import make_inputs, relative_error

CHUNK_OF_5 = 5 * 61 * 8  # bytes of workspace for 5 tokens of 61 float64 logits
PLANS = {"cached": None, "recompute": CHUNK_OF_5, "frozen": CHUNK_OF_5}


def run(inputs, function, *, frozen=False, **options):
    """logprobs, entropy, sum_sq and the gradients of a random combination of them."""
    if frozen:
        inputs.weight.requires_grad_(False)
        if inputs.options["bias"] is not None:
            inputs.options["bias"].requires_grad_(False)
    out = function(inputs.hidden, inputs.weight, inputs.targets, **inputs.options, **options)
    g = torch.Generator().manual_seed(1)
    upstream = [torch.randn(x.shape, generator=g).to(x) for x in out]
    return [*out, *torch.autograd.grad(out, inputs.leaves(), upstream)]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("bias", "softcap", "temperature", "L"),
    [(False, None, 1.0, 23), (True, 4.0, "tokens", 23), (True, None, 0.7, None), (False, 4.0, 1.0, None)],
)
def test_matches_reference_in_float64(plan, bias, softcap, temperature, L):
    inputs = make_inputs(bias=bias, softcap=softcap, temperature=temperature, L=L)
    frozen = plan == "frozen"
    ref = run(inputs.to(torch.float64), linear_logprob_ref, frozen=frozen)
    options = {"entropy": True, "sum_sq": True, "workspace_bytes": PLANS[plan]}
    out = run(inputs.to(torch.float64), linear_logprob, frozen=frozen, **options)
    for x, y in zip(out, ref, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize(("plan", "softcap"), [("cached", None), ("recompute", 4.0), ("frozen", 4.0)])
def test_gradcheck(plan, softcap):
    inputs = make_inputs(T=7, H=4, V=9, L=5, bias=True, softcap=softcap, temperature="tokens").to(
        torch.float64
    )
    if plan == "frozen":
        inputs.weight.requires_grad_(False)
        inputs.options["bias"].requires_grad_(False)

    def outputs(*leaves):
        hidden, weight, bias = (
            (*leaves, inputs.weight, inputs.options["bias"])[:3] if len(leaves) == 1 else leaves
        )
        options = inputs.options | {"bias": bias, "entropy": True, "sum_sq": True, "workspace_bytes": 1 << 20}
        if plan == "recompute":
            options["workspace_bytes"] = 2 * 9 * 8
        return tuple(linear_logprob(hidden, weight, inputs.targets, **options))

    assert torch.autograd.gradcheck(outputs, inputs.leaves())


def plain_torch(inputs, dtype):
    """The same outputs by full logits in ``dtype``, with a float32 softmax: what most trainers do."""
    return run(inputs.to(dtype), linear_logprob_ref)


# Our error may be twice that of plain torch in the same dtype (two orders of summation differ by that much),
# + one rounding of the output.
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-7), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("logit_scale", [1.0, 12.0], ids=["flat", "peaked"])
@pytest.mark.parametrize("softcap", [None, 20.0])
def test_error_ratio(dtype, rounding, logit_scale, softcap):
    inputs = make_inputs(T=130, H=64, V=1003, L=97, bias=True, softcap=softcap, logit_scale=logit_scale)
    truth = run(inputs.to(torch.float64), linear_logprob_ref)
    ours = run(inputs.to(dtype), linear_logprob, entropy=True, sum_sq=True, workspace_bytes=40 * 1003 * 4)
    plain = plain_torch(inputs, dtype)
    for name, x, y, t in zip(
        ("logprobs", "entropy", "sum_sq", "hidden", "weight", "bias"), ours, plain, truth, strict=True
    ):
        assert relative_error(x, t) <= 2 * relative_error(y, t) + rounding, name


def test_bf16_logprobs_are_far_better_than_bf16_logits():
    inputs = make_inputs(T=200, H=64, V=2000, L=None, logit_scale=6.0)
    p = torch.softmax(inputs.hidden @ inputs.weight.T, 1)
    sampled = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(0)).squeeze(1)
    truth = p.gather(1, sampled[:, None]).squeeze(1).log()
    low = inputs.to(torch.bfloat16)
    ours, plain = (f(low.hidden, low.weight, sampled).logprobs for f in (linear_logprob, linear_logprob_ref))
    assert (ours - truth).abs().mean() < 0.1 * (plain - truth).abs().mean()


@pytest.mark.parametrize("shift", [-320.0, -1e4, 320.0])
def test_shifted_logits(shift):
    inputs = make_inputs(T=12, L=None, bias=True)
    base = inputs.to(torch.float32)
    moved = inputs.to(torch.float32)
    moved.options["bias"] = moved.options["bias"].detach() + shift
    a, b = (
        linear_logprob(i.hidden, i.weight, i.targets, bias=i.options["bias"], entropy=True, sum_sq=True)
        for i in (base, moved)
    )
    # z + shift is rounded to float32: half an ulp of 1e4 is 5e-4
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=abs(shift) * 1.2e-7 * 4 + 1e-6)


def test_peaked_softmax_and_removed_entries():
    hidden, weight = torch.eye(4).double() * 400, torch.eye(4).double().requires_grad_()
    bias = torch.tensor([0.0, 0.0, 0.0, -torch.inf]).double()
    out = linear_logprob(hidden, weight, torch.tensor([0, 0, 2, 3]), bias=bias, entropy=True, sum_sq=True)
    assert out.logprobs[0] == 0 and out.logprobs[1] == -400 and out.logprobs[3] < -1e29
    torch.testing.assert_close(out.entropy[:3], torch.zeros(3).double())
    torch.testing.assert_close(
        out.entropy[3], torch.tensor(3.0).double().log()
    )  # uniform over the other three
    torch.testing.assert_close(out.sum_sq[3], torch.tensor(1 / 3).double())
    (grad,) = torch.autograd.grad(out.entropy.sum() + out.logprobs[:3].sum(), weight)
    assert grad.isfinite().all()


def test_chunk_size_permutation_and_packing_do_not_matter():
    inputs = make_inputs(T=40, L=31).to(torch.float64)
    weight, hidden, y, idx = inputs.weight, inputs.hidden, inputs.targets, inputs.options["token_idx"]
    whole = linear_logprob(hidden, weight, y, token_idx=idx, entropy=True)
    small = linear_logprob(hidden, weight, y, token_idx=idx, entropy=True, workspace_bytes=1)
    order = torch.randperm(31)
    mixed = linear_logprob(hidden, weight, y[order], token_idx=idx[order], entropy=True)
    alone = [
        linear_logprob(hidden[i : i + 1], weight, y[n : n + 1]).logprobs for n, i in enumerate(idx.tolist())
    ]
    torch.testing.assert_close(small.logprobs, whole.logprobs)
    torch.testing.assert_close(mixed.logprobs, whole.logprobs[order])
    torch.testing.assert_close(mixed.entropy, whole.entropy[order])
    torch.testing.assert_close(torch.cat(alone), whole.logprobs)


@pytest.mark.parametrize("L", [0, 1])
@pytest.mark.parametrize("frozen", [False, True])
def test_few_tokens(L, frozen):
    inputs = make_inputs(L=L)
    ref = run(inputs.to(torch.float64), linear_logprob_ref, frozen=frozen)
    out = run(inputs.to(torch.float64), linear_logprob, frozen=frozen, entropy=True, sum_sq=True)
    for x, y in zip(out, ref, strict=True):
        torch.testing.assert_close(x, y)


def test_more_than_65535_tokens():
    inputs = make_inputs(T=65_541, H=3, V=5, L=None).to(torch.float32)
    out = linear_logprob(inputs.hidden, inputs.weight, inputs.targets, workspace_bytes=1 << 18)
    ref = linear_logprob_ref(inputs.hidden, inputs.weight, inputs.targets)
    torch.testing.assert_close(out.logprobs, ref.logprobs)


def test_plans_are_chosen_by_budget_and_requires_grad():
    inputs = make_inputs().to(torch.float32)
    hidden, weight, y = inputs.hidden, inputs.weight, inputs.targets
    choose = lambda w, ws: op._choose_plan(hidden, w, None, y, ws, "cpu")  # noqa: E731
    needed = 23 * 61 * 4
    assert choose(weight, needed) == "cached"
    assert choose(weight, needed - 1) == "recompute"
    assert choose(weight.detach(), needed) == "frozen"
    with torch.no_grad():
        assert choose(weight, needed) == "values"


def test_two_runs_give_equal_bits_and_backward_can_run_twice():
    inputs = make_inputs(T=64, L=50, V=333)
    runs = [run(inputs.to(torch.bfloat16), linear_logprob, entropy=True, sum_sq=True) for _ in range(2)]
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))
    once = inputs.to(torch.float32)
    out = linear_logprob(once.hidden, once.weight, once.targets, token_idx=once.options["token_idx"])
    first, second = (
        torch.autograd.grad(out.logprobs.sum(), once.leaves(), retain_graph=True) for _ in range(2)
    )
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_master_weights_in_float32():
    inputs = make_inputs(L=None).to(torch.bfloat16)
    master = inputs.weight.detach().float().requires_grad_()
    cast = master.detach().bfloat16()
    a = linear_logprob(inputs.hidden, master, inputs.targets)
    b = linear_logprob(inputs.hidden, master, inputs.targets, weight_cast=cast)
    c = linear_logprob(inputs.hidden, inputs.weight, inputs.targets)
    grads = [
        torch.autograd.grad(x.logprobs.sum(), w) for x, w in ((a, master), (b, master), (c, inputs.weight))
    ]
    assert torch.equal(a.logprobs, b.logprobs) and torch.equal(a.logprobs, c.logprobs)
    assert grads[0][0].dtype is torch.float32 and torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][0].bfloat16(), grads[2][0])


@pytest.mark.long
@pytest.mark.parametrize("frozen", [False, True])
def test_opcheck(frozen):
    inputs = make_inputs(T=6, H=4, V=7, L=5).to(torch.float32)
    for entropy, plan in itertools.product((False, True), ("frozen",) if frozen else ("cached", "recompute")):
        args = (inputs.hidden, inputs.weight.detach().requires_grad_(not frozen), None, None)
        args += (inputs.targets, inputs.options["token_idx"], None, [1.0, math.inf, 1 << 20])
        args += ([entropy, False], plan, "cpu")
        torch.library.opcheck(op._linear_logprob, args)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.zeros(22, dtype=torch.int64)}, r"token_idx must have shape \(22\), got \(23,\)"),
        ({"targets": torch.zeros(23)}, "targets must be int64 or int32, got float32"),
        ({"weight": torch.zeros(61, 15)}, r"weight must have shape \(any, 16\), got \(61, 15\)"),
        ({"weight_cast": torch.zeros(61, 16).double()}, "weight_cast must be float32, got float64"),
        ({"bias": torch.zeros(60)}, r"bias must have shape \(61\), got \(60,\)"),
        ({"temperature": 0.0}, r"temperature must lie in \(0, inf\), got 0.0"),
        ({"temperature": torch.ones(22)}, r"temperature must have shape \(23\), got \(22,\)"),
        ({"softcap": -1.0}, r"softcap must lie in \(0, inf\), got -1.0"),
        ({"backend": "cuda"}, "backend must be one of"),
        (
            {"targets": torch.full((23,), 61), "validate": True},
            r"targets must lie in \[0, 61\) or be ignore_index -100, got 61 to 61",
        ),
        ({"token_idx": torch.full((23,), 37), "validate": True}, r"token_idx must lie in \[0, 37\)"),
    ],
)
def test_bad_input(change, message):
    inputs = make_inputs().to(torch.float32)
    arguments = dict(hidden=inputs.hidden, weight=inputs.weight, targets=inputs.targets, **inputs.options)
    with pytest.raises(ValueError, match=message):
        linear_logprob(**(arguments | change))


def test_where_no_values_can_be_looked_at():
    """vmap, export, the meta device: labels may be ignored there too."""
    hidden, weight = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)), torch.eye(7, 4)
    labels = torch.arange(15).view(3, 5) % 7
    labels[1, 2] = -100
    eager = linear_logprob(hidden, weight, labels).logprobs
    assert torch.equal(torch.vmap(lambda h, y: linear_logprob(h, weight, y).logprobs)(hidden, labels), eager)
    arguments = (hidden, weight, labels)
    assert torch.equal(torch.export.export(Logprobs(), arguments).module()(*arguments), eager)
    for backend in ("auto", "reference"):
        on_meta = linear_logprob(*(x.to("meta") for x in (hidden, weight, labels)), backend=backend)
        assert on_meta.logprobs.shape == (3, 5) and on_meta.logprobs.is_meta


class Logprobs(torch.nn.Module):
    def forward(self, hidden, weight, labels):
        return linear_logprob(hidden, weight, labels).logprobs
