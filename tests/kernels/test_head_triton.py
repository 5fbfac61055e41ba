"""The Triton row kernels: on a GPU, or on a CPU in Triton's interpreter (TRITON_INTERPRET=1, tiny shapes)."""

import pytest
import torch

from lamer_kernels import linear_divergence, linear_logprob, linear_policy_loss
from lamer_kernels.head.logprob import linear_logprob_ref
from tests.kernels.head import make_inputs, relative_error
from tests.kernels.test_linear_policy_loss import EXTRAS, LOSSES, token_options

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
pytestmark = pytest.mark.gpu if CUDA else pytest.mark.interpret
VOCABS = [61, 128, 8192 + 5]  # below a block, a block, two blocks with a ragged end
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 4e-3}  # sums of another order; one rounding of the output


def head_outputs(inputs, function, **options):
    out = function(inputs.hidden, inputs.weight, inputs.targets, **inputs.options, **options)
    upstream = [torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x) for x in out]
    return [*out, *torch.autograd.grad(out, inputs.leaves(), upstream)]


@pytest.mark.parametrize("V", VOCABS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("softcap", "temperature"), [(None, 1.0), (4.0, "tokens")])
def test_linear_logprob(V, dtype, softcap, temperature):
    inputs = make_inputs(T=9, V=V, L=7, bias=True, softcap=softcap, temperature=temperature, logit_scale=3.0)
    truth = head_outputs(inputs.to(torch.float64, DEVICE), linear_logprob_ref)
    plain = head_outputs(inputs.to(dtype, DEVICE), linear_logprob_ref)
    for workspace_bytes in (None, 3 * V * 4):  # cached logits, recomputed logits
        options = dict(entropy=True, sum_sq=True, workspace_bytes=workspace_bytes, backend="triton")
        ours = head_outputs(inputs.to(dtype, DEVICE), linear_logprob, **options)
        for x, y, t in zip(ours, plain, truth, strict=True):
            assert relative_error(x, t) <= 2 * relative_error(y, t) + ROUNDING[dtype]


@pytest.mark.parametrize("V", VOCABS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["forward", "reverse", "jensen_shannon"])
def test_linear_divergence(V, dtype, kind):
    """Values, log-probs and gradients no further from float64 than twice torch's passes; a row that weighs 0
    holds NaN; two chunks."""
    g = torch.Generator().manual_seed(0)
    hidden, teacher_hidden = torch.randn(5, 8, generator=g), torch.randn(5, 12, generator=g)
    weight, teacher_weight = 2 * torch.randn(V, 8, generator=g), torch.randn(V, 12, generator=g)
    arguments = [x.to(DEVICE, dtype) for x in (hidden, weight, teacher_hidden, teacher_weight)]
    arguments[0][3] = torch.nan
    options = dict(
        kind=kind, beta=0.3, temperature=0.7, targets=torch.tensor([0, V - 1, 7, 1, 60], device=DEVICE),
        token_weights=torch.tensor([1.0, -0.5, 2.0, 0.0, 0.25], device=DEVICE), workspace_bytes=6 * V * 4,
    )  # fmt: skip

    def outputs(convert, backend):
        x = [convert(a) for a in arguments]
        leaves = [a.requires_grad_() for a in x[:2]]
        out = linear_divergence(*x, **options | dict(backend=backend))
        there = options["token_weights"] != 0
        results = [out.loss, out.values, out.logprobs[there], out.teacher_logprobs[there]]
        return [*results, *torch.autograd.grad(out.loss, leaves)]

    options["token_weights"] = options["token_weights"].double()
    truth = outputs(torch.Tensor.double, "reference")
    options["token_weights"] = options["token_weights"].float()
    plain, ours = (outputs(torch.Tensor.clone, backend) for backend in ("reference", "triton"))
    assert not ours[1][3] and not ours[-2][3].any(), "a token of weight 0 has no value and no gradient"
    for x, y, t in zip(ours, plain, truth, strict=True):
        assert relative_error(x, t) <= 2 * relative_error(y, t) + ROUNDING.get(dtype, 5e-4)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jensen_shannon"])
def test_divergence_far_apart_offset_and_equal(kind):
    """Gaps of thousands of nats stay right; what both rows have in common, and equal rows, give nothing."""
    one = torch.ones(1, 1, device=DEVICE)
    s, t = torch.zeros(61, 1, device=DEVICE), torch.zeros(61, 1, device=DEVICE)
    s[0], t[60] = 3000.0, 3000.0
    for a, b in ((s, t), (s, s), (s - 1e4, t + 1e4)):
        found, wanted = (
            linear_divergence(one, a, one, b, kind=kind, backend=backend).values
            for backend in ("triton", "reference")
        )
        torch.testing.assert_close(found, wanted)
    assert not linear_divergence(one, s, one, s, kind=kind, backend="triton").values.any()


def policy_outputs(inputs, **options):
    arguments = inputs.options | options
    out = linear_policy_loss(
        inputs.hidden, inputs.weight, inputs.targets, inputs.old_logprobs, inputs.advantages, **arguments
    )
    return out, torch.autograd.grad(out.loss, inputs.leaves())


# of the losses over segments one: the others differ in torch's part alone
@pytest.mark.parametrize("loss", [name for name in LOSSES if not name.startswith(("gspo_token", "gmpo"))])
@pytest.mark.parametrize("extra", EXTRAS)
def test_linear_policy_loss_in_float32(loss, extra):
    inputs = make_inputs(bias=True, softcap=6.0, temperature="tokens").to(torch.float32, DEVICE)
    options = LOSSES[loss] | token_options(EXTRAS[extra], torch.float32)
    options = {name: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for name, x in options.items()}
    ref, ref_grads = policy_outputs(inputs, backend="reference", **options)
    for compact in ("host", "data"):
        choice = dict(compact=compact, workspace_bytes=10 * 61 * 4, backend="triton")
        out, grads = policy_outputs(inputs, **choice, **options)
        for x, y in zip((out.loss, *grads), (ref.loss, *ref_grads), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
        for x, y in zip(out[1:-1], ref[1:-1], strict=True):
            torch.testing.assert_close(x[out.kept], y[out.kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("V", VOCABS)
def test_linear_policy_loss_in_bf16(V):
    inputs = make_inputs(T=9, V=V, L=7, logit_scale=3.0)
    options = dict(clip_low=1.0, clip_high=10.0, entropy_coef=0.1)  # no token may flip sides by rounding
    truth, truth_grads = policy_outputs(inputs.to(torch.float64, DEVICE), backend="reference", **options)
    plain, plain_grads = policy_outputs(inputs.to(torch.bfloat16, DEVICE), backend="reference", **options)
    for workspace_bytes in (None, 3 * V * 4):
        choice = dict(backend="triton", workspace_bytes=workspace_bytes)
        ours, grads = policy_outputs(inputs.to(torch.bfloat16, DEVICE), **choice, **options)
        columns = zip(
            (ours.loss, *grads), (plain.loss, *plain_grads), (truth.loss, *truth_grads), strict=True
        )
        for x, y, t in columns:
            assert relative_error(x, t) <= 2 * relative_error(y, t) + ROUNDING[torch.bfloat16]


def test_a_target_outside_of_the_vocabulary_is_not_read():
    from lamer_kernels.head.logprob.launch import row_stats
    from lamer_kernels.head.projection import make_head

    logits, targets = torch.randn(4, 61, device=DEVICE), torch.tensor([-100, 61, 2**40, 3], device=DEVICE)
    head = make_head(torch.zeros(61, 8, device=DEVICE), None, None, 1.0, torch.float32)
    logprobs = row_stats(logits, targets, head, 1.0, entropy=True, sum_sq=True).logprobs
    assert logprobs[:3].isnan().all()
    torch.testing.assert_close(logprobs[3], logits[3].log_softmax(0)[3])


@pytest.mark.parametrize("loss", ["clip", "gspo"])
@pytest.mark.parametrize("compact", ["host", "data", "none"])
def test_ignored_labels_without_a_look_at_them(loss, compact, monkeypatch):
    """As on a GPU, where nobody waits for the labels; NaN in the rows of ignored labels must not show."""
    monkeypatch.setattr("lamer_kernels.head.checks.readable", lambda x: False)
    inputs = make_inputs(bias=True, L=None).to(torch.float32, DEVICE)
    present = torch.arange(37, device=DEVICE) % 3 != 1
    cu = torch.tensor([0, 4, 4, 5, 14, 37], device=DEVICE) if loss == "gspo" else None
    with torch.no_grad():
        inputs.hidden[~present] = float("nan")
    weights = torch.rand(37, generator=torch.Generator().manual_seed(0))  # on the host
    weights[::7] = 0
    labels = torch.where(present, inputs.targets, -100)
    options = dict(loss=loss, entropy_coef=0.1, token_weights=weights, cu_segments=cu, **inputs.options)
    results = []
    for backend in ("triton", "reference"):
        choice = dict(compact=compact, backend=backend, workspace_bytes=10 * 61 * 4)
        out = linear_policy_loss(
            inputs.hidden, inputs.weight, labels, inputs.old_logprobs, inputs.advantages, **choice, **options
        )
        results.append((out, torch.autograd.grad(out.loss, inputs.leaves())))
    (ours, grads), (ref, ref_grads) = results
    for x, y in zip((ours.loss, *grads), (ref.loss, *ref_grads), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
    assert not grads[0][~present].any() and not ours.kept[~present].any()
    for x, y in zip(ours[1:-1], ref[1:-1], strict=True):
        assert not x[~present].any()
        torch.testing.assert_close(x[ours.kept], y[ours.kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_log_probs_of_ignored_labels_without_a_look_at_them(frozen, monkeypatch):
    monkeypatch.setattr("lamer_kernels.head.checks.readable", lambda x: False)
    inputs = make_inputs(L=None).to(torch.float32, DEVICE)
    inputs.weight.requires_grad_(not frozen)
    present = torch.arange(37, device=DEVICE) % 3 != 1
    with torch.no_grad():
        inputs.hidden[~present] = float("nan")
    labels = torch.where(present, inputs.targets, -100)
    for workspace_bytes in (None, 10 * 61 * 4):
        choice = dict(entropy=True, sum_sq=True, backend="triton", workspace_bytes=workspace_bytes)
        out = linear_logprob(inputs.hidden, inputs.weight, labels, **choice)
        truth = linear_logprob_ref(inputs.hidden[present], inputs.weight, inputs.targets[present])
        leaves = inputs.leaves()
        grads = torch.autograd.grad(sum(x.sum() for x in out), leaves)
        right = torch.autograd.grad(sum(x.sum() for x in truth), leaves)
        for x, y in zip(out, truth, strict=True):
            assert not x[~present].any()
            torch.testing.assert_close(x[present], y, rtol=1e-4, atol=1e-5)
        for x, y in zip(grads, right, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", [-320.0, -1e4])
def test_shifted_logits(shift):
    inputs = make_inputs(T=5, L=None, bias=True).to(torch.float32, DEVICE)
    outs = [
        linear_logprob(
            inputs.hidden, inputs.weight, inputs.targets, bias=inputs.options["bias"] + by, entropy=True,
            backend="triton",
        )
        for by in (0.0, shift)
    ]  # fmt: skip
    for x, y in zip(outs[0][:2], outs[1][:2], strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=abs(shift) * 5e-7 + 1e-6)


def test_two_runs_give_equal_bits():
    inputs = make_inputs()
    runs = [policy_outputs(inputs.to(torch.bfloat16, DEVICE), backend="triton") for _ in range(2)]
    assert all(map(torch.equal, runs[0][0], runs[1][0])) and all(map(torch.equal, runs[0][1], runs[1][1]))


def test_row_offsets_are_int64():
    """Row 14,135 of a 151,936-entry vocabulary starts beyond 2^31: the kernels' own expression."""
    import triton
    import triton.language as tl

    @triton.jit
    def offset_kernel(out_ptr, stride):
        row = tl.program_id(0).to(tl.int64)
        tl.store(out_ptr + tl.program_id(0), row * stride)

    out = torch.zeros(16_000, dtype=torch.int64, device=DEVICE)
    offset_kernel[(16_000 if CUDA else 3,)](out, 151_936 if CUDA else 1_200_000_000)
    last = 15_999 if CUDA else 2
    assert int(out[last]) == last * (151_936 if CUDA else 1_200_000_000) > 2**31


@pytest.mark.skipif(not CUDA, reason="counts compilations of the GPU compiler")
def test_twenty_lengths_compile_once():
    from lamer_kernels.head.policy.gpu import policy_rows_kernel

    def compiled() -> int:
        return sum(len(cache[0]) for cache in policy_rows_kernel.device_caches.values())

    counts = []
    for length in range(40, 60):
        inputs = make_inputs(T=length, L=None).to(torch.bfloat16, DEVICE)
        policy_outputs(inputs, compact="none", workspace_bytes=13 * 61 * 4)
        counts.append(compiled())
    assert counts[0] == counts[-1] >= 1


@pytest.mark.skipif(not CUDA, reason="the interpreter would take hours")
def test_more_than_2_31_logits():
    inputs = make_inputs(T=16_500, H=64, V=131_072, L=None).to(torch.bfloat16, DEVICE)
    out = linear_logprob(inputs.hidden, inputs.weight, inputs.targets, workspace_bytes=9_000_000_000)
    last = linear_logprob_ref(inputs.hidden[-64:], inputs.weight, inputs.targets[-64:])
    torch.testing.assert_close(
        out.logprobs[-64:], last.logprobs, rtol=0, atol=0.1
    )  # the reference rounds to bf16


@pytest.mark.skipif(not CUDA, reason="CPU tensors need no synchronisation")
def test_default_path_never_synchronises():
    inputs, segments = make_inputs(L=None).to(torch.bfloat16, DEVICE), torch.tensor([0, 17, 37]).to(DEVICE)
    policy_outputs(inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        policy_outputs(inputs)
        policy_outputs(inputs, loss="gspo", cu_segments=segments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_cpu_tensors_are_refused_outside_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    inputs = make_inputs().to(torch.float32)
    with pytest.raises(ValueError, match="backend 'triton' needs the triton package and CUDA tensors"):
        linear_logprob(inputs.hidden, inputs.weight, inputs.targets, backend="triton", **inputs.options)
