"""linear_policy_loss on the CPU path: every loss, compaction, accumulation, refusals."""

import math

import pytest
import torch

from lamer_kernels import linear_policy_loss, policy_loss, token_weights
from lamer_kernels.head.policy import fused
from lamer_kernels.head.policy.terms import LossConfig
from tests.kernels.head import make_inputs, relative_error

CU_SEGMENTS = torch.tensor([0, 4, 4, 5, 14, 23])
LOSSES = {
    "ppo": dict(loss="clip"),
    "dual clip": dict(loss="clip", dual_clip=1.3, clip_low=0.1, clip_high=0.3),
    "gspo": dict(loss="gspo", cu_segments=CU_SEGMENTS, clip_low=0.05, clip_high=0.05),
    "gspo dual": dict(loss="gspo", cu_segments=CU_SEGMENTS, clip_low=0.05, clip_high=0.05, dual_clip=1.1),
    "ppo clamped": dict(loss="clip", log_ratio_clip=0.25, clip_low=0.1, clip_high=0.5),
    "gspo clamped": dict(loss="gspo", cu_segments=CU_SEGMENTS, log_ratio_clip=0.1),
    "cispo": dict(loss="cispo", clip_high=0.1),
    "reinforce": dict(loss="reinforce"),
    "gspo_token": dict(loss="gspo_token", cu_segments=CU_SEGMENTS, clip_low=0.05, clip_high=0.05),
    "gspo_token all": dict(
        loss="gspo_token",
        cu_segments=CU_SEGMENTS,
        clip_low=0.05,
        clip_high=0.1,
        dual_clip=1.1,
        log_ratio_clip=0.2,
    ),
    "gmpo": dict(loss="gmpo", cu_segments=CU_SEGMENTS, clip_low=0.1, clip_high=0.15),
    "sapo": dict(loss="sapo"),
    "sapo sharp": dict(loss="sapo", tau_pos=5.0, tau_neg=0.5, log_ratio_clip=0.3),
    "dppo": dict(loss="dppo", clip_low=0.02, clip_high=0.01),
    "dppo_kl": dict(loss="dppo_kl", clip_low=0.001, clip_high=0.002),
}
EXTRAS = {
    "plain": dict(),
    "k1 + entropy": dict(kl="k1", kl_coef=0.3, entropy_coef=0.1),
    "k2 + importance": dict(kl="k2", kl_coef=0.3, importance=True),
    "k3 + all": dict(kl="k3", kl_coef=0.3, entropy_coef=0.1, importance=True, weights=True),
    "k2 clamped": dict(kl="k2", kl_coef=0.3, kl_clip=(3.0, 2.0)),
    "k3 clamped": dict(kl="k3", kl_coef=0.3, kl_clip=(1.5, 0.6), weights=True),
    "weights": dict(weights=True),
}
CHUNK_OF_5 = 5 * 61 * 8


def token_options(extra, dtype=torch.float64, num_tokens=23):
    g = torch.Generator().manual_seed(2)
    options = dict(extra)
    if "kl" in options:
        options["ref_logprobs"] = -1 - torch.rand(num_tokens, generator=g).to(dtype) * 5
    if options.pop("importance", False):
        options["importance_weights"] = torch.rand(num_tokens, generator=g).to(dtype) * 2
    if options.pop("weights", False):
        options["token_weights"] = (
            torch.rand(num_tokens, generator=g) * (torch.rand(num_tokens, generator=g) > 0.3)
        ).to(dtype)
    return options


def run(inputs, scale=1.0, **options):
    out = linear_policy_loss(
        inputs.hidden,
        inputs.weight,
        inputs.targets,
        inputs.old_logprobs,
        inputs.advantages,
        **(inputs.options | options),
    )
    return out, torch.autograd.grad(out.loss * scale, inputs.leaves())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize(
    ("compact", "workspace_bytes"), [("host", None), ("data", CHUNK_OF_5), ("none", CHUNK_OF_5)]
)
def test_matches_reference_in_float64(loss, extra, compact, workspace_bytes):
    inputs = make_inputs(bias=True, softcap=6.0, temperature="tokens")
    options = LOSSES[loss] | token_options(EXTRAS[extra])
    ref, ref_grads = run(inputs.to(torch.float64), 1.7, backend="reference", **options)
    out, grads = run(
        inputs.to(torch.float64), 1.7, compact=compact, workspace_bytes=workspace_bytes, **options
    )
    for x, y in zip((out.loss, *grads), (ref.loss, *ref_grads), strict=True):
        torch.testing.assert_close(x, y)
    for x, y in zip(out[1:-1], ref[1:-1], strict=True):
        torch.testing.assert_close(x[out.kept], y[out.kept])
        assert not x[~out.kept].any()


@pytest.mark.parametrize("loss", [name for name in LOSSES if "gspo_token" not in name])
def test_gradcheck(loss):  # gspo_token's gradient is not that of its value
    inputs = make_inputs(T=9, H=4, V=7, L=6, bias=True, temperature=0.8).to(torch.float64)
    options = LOSSES[loss] | token_options(EXTRAS["k3 + all"], num_tokens=6)
    if "cu_segments" in options:
        options["cu_segments"] = torch.tensor([0, 2, 6])
    if loss == "cispo":  # its gradient is that of a surrogate with a constant factor, not of its value
        options["clip_low"] = options["clip_high"] = 0.0

    def total(hidden, weight, bias):
        arguments = inputs.options | {"bias": bias} | options
        return linear_policy_loss(
            hidden, weight, inputs.targets, inputs.old_logprobs, inputs.advantages, **arguments
        ).loss

    assert torch.autograd.gradcheck(total, inputs.leaves())


# twice the error of plain torch in the same dtype + one rounding of the output, as in test_linear_logprob
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("loss", ["ppo", "gspo"])
def test_error_ratio(dtype, rounding, loss):
    inputs = make_inputs(T=130, H=64, V=1003, L=96, logit_scale=4.0)
    inputs.old_logprobs += 0.05 * torch.randn(96, generator=torch.Generator().manual_seed(3))
    options = dict(LOSSES[loss], clip_low=1.0, clip_high=10.0)  # no token may flip sides by rounding
    if loss == "gspo":
        options["cu_segments"] = torch.tensor([0, 32, 40, 96])
    truth, truth_grads = run(inputs.to(torch.float64), backend="reference", **options)
    ours, our_grads = run(inputs.to(dtype), workspace_bytes=40 * 1003 * 4, **options)
    plain, plain_grads = run(inputs.to(dtype), backend="reference", **options)
    columns = zip(
        (ours.loss, *our_grads), (plain.loss, *plain_grads), (truth.loss, *truth_grads), strict=True
    )
    for x, y, t in columns:
        assert relative_error(x, t) <= 2 * relative_error(y, t) + rounding


def test_tokens_without_coefficient_cost_nothing_and_change_nothing():
    inputs = make_inputs(L=None)
    live = inputs.to(torch.float32)
    few = inputs.to(torch.float32)
    keep = live.advantages != 0
    out, grads = run(live)
    few.options["token_idx"] = keep.nonzero().squeeze(1)
    few.targets, few.old_logprobs, few.advantages = (
        few.targets[keep],
        few.old_logprobs[keep],
        few.advantages[keep],
    )
    less, less_grads = run(few)
    assert torch.equal(out.kept, keep) and less.kept.all()
    assert torch.equal(out.loss, less.loss) and all(map(torch.equal, grads, less_grads))
    assert not grads[0][~keep].any(), "a token without coefficient must get exactly zero gradient"
    assert torch.equal(out.logprobs[keep], less.logprobs)


@pytest.mark.parametrize("loss", ["ppo", "gspo"])
def test_all_tokens_masked(loss):
    inputs = make_inputs().to(torch.float32)
    out, grads = run(inputs, token_weights=torch.zeros(23), **LOSSES[loss])
    assert out.loss == 0 and not out.kept.any() and not any(g.any() for g in grads)
    out, grads = run(inputs, token_weights=torch.zeros(23), compact="none", **LOSSES[loss])
    assert out.loss == 0 and out.kept.all() and not any(g.any() for g in grads)


def test_a_token_of_weight_zero_may_have_any_ratio():
    inputs = make_inputs().to(torch.float32)
    weights = torch.ones(23)
    weights[7] = 0
    inputs.old_logprobs[7] = -1e6  # exp overflows
    out, grads = run(inputs, token_weights=weights, compact="none")
    assert out.loss.isfinite() and all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("L", [0, 1])
@pytest.mark.parametrize("loss", ["clip", "reinforce"])
def test_few_tokens(L, loss):
    inputs = make_inputs(L=L)
    inputs.advantages += 1
    ref, ref_grads = run(inputs.to(torch.float64), loss=loss, backend="reference")
    out, grads = run(inputs.to(torch.float64), loss=loss)
    for x, y in zip((out.loss, *grads), (ref.loss, *ref_grads), strict=True):
        torch.testing.assert_close(x, y)


def test_old_logprobs_none_means_on_policy():
    inputs = make_inputs().to(torch.float64)
    with torch.no_grad():
        first = run_forward(inputs, None)
    inputs.old_logprobs = first.logprobs
    given, given_grads = run(inputs)
    inputs.old_logprobs = None
    out, grads = run(inputs)
    assert torch.equal(out.ratio[out.kept], torch.ones_like(out.ratio[out.kept]))
    for x, y in zip((out.loss, *grads), (given.loss, *given_grads), strict=True):
        torch.testing.assert_close(x, y)


def run_forward(inputs, old_logprobs, **options):
    arguments = inputs.options | options
    return linear_policy_loss(
        inputs.hidden, inputs.weight, inputs.targets, old_logprobs, inputs.advantages, **arguments
    )


def test_no_grad_computes_no_gradient():
    inputs = make_inputs().to(torch.float32)
    dweight = torch.zeros(61, 16)
    with torch.no_grad():
        out = run_forward(inputs, inputs.old_logprobs, dweight_out=dweight)
    graded, _ = run(inputs)
    assert not out.loss.requires_grad and not dweight.any()
    torch.testing.assert_close(out.loss, graded.loss.detach())


def test_dweight_out_accumulates_over_micro_batches():
    inputs = make_inputs(L=None)
    _, (dhidden, dweight) = run(inputs.to(torch.float64))
    halves, total = inputs.to(torch.float64), torch.zeros(61, 16).double()
    for rows in (slice(0, 20), slice(20, 37)):
        part = run_forward_rows(halves, rows, total)
        part.loss.backward()
    assert halves.weight.grad is None
    torch.testing.assert_close(total, dweight)
    torch.testing.assert_close(halves.hidden.grad, dhidden)


def run_forward_rows(inputs, rows, dweight_out):
    return linear_policy_loss(
        inputs.hidden[rows],
        inputs.weight,
        inputs.targets[rows],
        inputs.old_logprobs[rows],
        inputs.advantages[rows],
        dweight_out=dweight_out,
    )


def test_frozen_head_and_frozen_trunk():
    inputs = make_inputs().to(torch.float64)
    _, (dhidden, dweight) = run(inputs)
    inputs.weight.requires_grad_(False)
    _, (only_hidden,) = run(inputs)
    inputs.weight.requires_grad_()
    inputs.hidden.requires_grad_(False)
    _, (only_weight,) = run(inputs)
    torch.testing.assert_close(only_hidden, dhidden)
    torch.testing.assert_close(only_weight, dweight)


def test_chunk_size_and_permutation_do_not_matter():
    inputs = make_inputs()
    whole, grads = run(inputs.to(torch.float64))
    small, small_grads = run(inputs.to(torch.float64), workspace_bytes=1)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    mixed = inputs.to(torch.float64)
    mixed.options["token_idx"] = mixed.options["token_idx"][order]
    mixed.targets, mixed.old_logprobs = mixed.targets[order], mixed.old_logprobs[order]
    mixed.advantages = mixed.advantages[order]
    permuted, permuted_grads = run(mixed)
    for out, found in ((small, small_grads), (permuted, permuted_grads)):
        for x, y in zip((out.loss, *found), (whole.loss, *grads), strict=True):
            torch.testing.assert_close(x, y)
    torch.testing.assert_close(permuted.logprobs, whole.logprobs[order])


def test_a_position_may_predict_several_targets():
    inputs = make_inputs(T=3, L=None).to(torch.float64)
    inputs.options["token_idx"] = torch.tensor([1, 1, 2])
    ref, ref_grads = run(inputs, backend="reference")
    out, grads = run(inputs)
    for x, y in zip((out.loss, *grads), (ref.loss, *ref_grads), strict=True):
        torch.testing.assert_close(x, y)


def test_two_runs_give_equal_bits():
    inputs = make_inputs(T=64, L=50, V=333, temperature="tokens")
    runs = [run(inputs.to(torch.bfloat16), workspace_bytes=9 * 333 * 2) for _ in range(2)]
    assert all(map(torch.equal, runs[0][0], runs[1][0])) and all(map(torch.equal, runs[0][1], runs[1][1]))


def test_named_losses_are_pairs_of_loss_and_weights():
    inputs = make_inputs().to(torch.float64)
    mask = torch.rand(23, generator=torch.Generator().manual_seed(0)) > 0.3
    cu = torch.tensor([0, 4, 11, 11, 23])
    out = run_forward(inputs, inputs.old_logprobs, backend="reference", token_weights=None)
    surrogate = -torch.minimum(out.ratio * inputs.advantages, out.ratio.clamp(0.8, 1.2) * inputs.advantages)
    sequences = [slice(s, e) for s, e in ((0, 4), (4, 11), (11, 23))]
    means = [surrogate[s][mask[s]].mean() for s in sequences]
    expected = {
        "token_mean": surrogate[mask].mean(),
        "sequence_mean": torch.stack(means).mean(),
        "constant": surrogate[mask].sum() / 48,
    }
    for kind, value in expected.items():
        weights = token_weights(
            kind,
            mask,
            cu_sequences=cu if kind == "sequence_mean" else None,
            constant=48.0 if kind == "constant" else None,
        )
        loss = run_forward(inputs, inputs.old_logprobs, token_weights=weights).loss
        torch.testing.assert_close(loss, value, rtol=1e-13, atol=0)


@pytest.mark.long
@pytest.mark.parametrize("loss", ["ppo", "gspo"])
def test_ignored_labels_add_nothing(loss):
    """Eager leaves them out, a traced call (which may not look at them) gives them weight 0."""
    inputs = make_inputs(T=23, L=None, bias=True).to(torch.float32)
    present = torch.arange(23) % 3 != 1
    with torch.no_grad():
        inputs.hidden[~present] = float("nan")
    labels = torch.where(present, inputs.targets, -100)
    options = LOSSES[loss] | token_options(EXTRAS["k3 + all"], torch.float32)

    def outputs(function, labels, ignore_index=-100):
        out = function(
            inputs.hidden, inputs.weight, labels, inputs.old_logprobs, inputs.advantages,
            ignore_index=ignore_index, bias=inputs.options["bias"], **options,
        )  # fmt: skip
        return out, torch.autograd.grad(out.loss, inputs.leaves())

    eager, grads = outputs(linear_policy_loss, labels)
    assert eager.kept.tolist() == (present & (options["token_weights"] != 0)).tolist() or loss == "gspo"
    assert not grads[0][~present].any() and not any(x[~present].any() for x in eager[1:])
    traced, traced_grads = outputs(
        torch.compile(linear_policy_loss, backend="aot_eager", fullgraph=True), labels
    )
    for x, y in zip((traced.loss, *traced_grads), (eager.loss, *grads), strict=True):
        torch.testing.assert_close(x, y)
    for x, y in zip(traced[1:-1], eager[1:-1], strict=True):
        torch.testing.assert_close(x[eager.kept], y[eager.kept])
    padded, padded_grads = outputs(
        linear_policy_loss, torch.where(present, inputs.targets, 7), ignore_index=7
    )
    others = present & (inputs.targets != 7)
    assert padded.kept.tolist() == (eager.kept & others).tolist() or loss == "gspo"
    assert not padded_grads[0][~others].any()


def test_shapes_of_trainers():
    """[B, S, H] hidden and [B, S] data are the flat call, its results in their shape."""
    inputs = make_inputs(T=24, L=None).to(torch.float32)
    shaped = (2, 12)
    flat = linear_policy_loss(
        inputs.hidden, inputs.weight, inputs.targets, inputs.old_logprobs, inputs.advantages, temperature=0.5
    )
    out = linear_policy_loss(
        inputs.hidden.view(*shaped, 16), inputs.weight, inputs.targets.int().view(shaped),
        inputs.old_logprobs.view(shaped), inputs.advantages.view(shaped), temperature=torch.tensor(0.5),
    )  # fmt: skip
    grads = [torch.autograd.grad(x.loss, inputs.leaves()) for x in (out, flat)]
    for x, y in zip((*out, *grads[0]), (*flat, *grads[1]), strict=True):
        assert torch.equal(x.flatten(), y.flatten())
    assert all(x.shape == shaped for x in out[1:])
    again = policy_loss(out.logprobs, inputs.old_logprobs.view(shaped), inputs.advantages.view(shaped))
    assert again.ratio.shape == shaped and torch.allclose(again.loss, flat.loss)
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    assert token_weights("sequence_mean", mask).tolist() == [[0.25, 0.25, 0], [0, 0.5, 0]]


@pytest.mark.parametrize("bound", [None, 2.0])
def test_switches_go_flat_and_come_back(bound):
    config = LossConfig("clip", 0.2, 0.3, bound, bound, "k3", 0.1, bound and (20.0, float("inf")), 0.2)
    assert LossConfig.of_flat(config.flat()) == config


def test_opcheck():
    inputs = make_inputs(T=6, H=4, V=7, L=5).to(torch.float32)
    dweight = torch.zeros(7, 4)
    tokens = [inputs.old_logprobs, inputs.advantages, None, None, None, None]
    switches = LossConfig("clip", 0.2, 0.2, None, None, "k3", 0.0, None, 0.0).flat()
    for dweight_out, need_weight in ((dweight, False), (None, True)):
        args = (inputs.hidden.detach(), inputs.weight.detach(), None, None, dweight_out)
        args += ([inputs.targets, inputs.options["token_idx"], None], [1.0, math.inf, 1 << 20], tokens)
        args += (switches, [True, need_weight, False], "host", "cpu")
        torch.library.opcheck(fused._linear_policy_loss, args)
    loss = torch.tensor(1.0)
    torch.library.opcheck(
        fused.attach_gradients,
        (loss, [inputs.hidden, inputs.weight], [torch.ones_like(inputs.hidden), dweight]),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"loss": "gspo"},
            "cu_segments goes with loss 'gspo', 'gspo_token', 'gmpo' and only there, got loss 'gspo' without",
        ),
        (
            {"cu_segments": CU_SEGMENTS},
            "cu_segments goes with loss 'gspo', 'gspo_token', 'gmpo' and only there, got loss 'clip' with",
        ),
        ({"loss": "ppo"}, "loss must be one of"),
        ({"kl_coef": 0.1}, "kl_coef 0.1 needs ref_logprobs, got None"),
        ({"kl": "k4"}, "kl must be one of"),
        ({"tau_pos": 2.0}, "tau_pos and tau_neg go with loss 'sapo', got .2.0, 1.05. with loss 'clip'"),
        ({"loss": "sapo", "tau_neg": 0.0}, "tau_neg must lie in .0, inf., got 0.0"),
        (
            {"loss": "cispo", "dual_clip": 3.0},
            "dual_clip goes with loss 'clip' or 'gspo' or 'gspo_token', got loss 'cispo'",
        ),
        ({"dual_clip": 0.5}, r"dual_clip must lie in \(1, inf\), got 0.5"),
        ({"loss": "reinforce", "log_ratio_clip": 20.0}, "log_ratio_clip goes with a loss of ratios"),
        ({"kl_clip": (20.0, 10.0)}, r"kl_clip \(20.0, 10.0\) needs ref_logprobs, got None"),
        ({"clip_low": -0.1}, r"clip_low must lie in \[0, 1\], got -0.1"),
        ({"advantages": torch.zeros(22)}, r"advantages must have shape \(23\), got \(22,\)"),
        ({"old_logprobs": torch.zeros(23).half()}, "old_logprobs must be float32 or float64, got float16"),
        ({"advantages": torch.zeros(23, requires_grad=True)}, "advantages gets no gradient"),
        ({"dweight_out": torch.zeros(61, 16).bfloat16()}, "dweight_out must be float32, got bfloat16"),
        ({"compact": "yes"}, "compact must be one of"),
        (
            {"loss": "gspo", "cu_segments": torch.tensor([0, 9, 4, 23]), "validate": True},
            "cu_segments must not fall",
        ),
        (
            {"loss": "gspo", "cu_segments": torch.tensor([0, 22]), "validate": True},
            "cu_segments must run from 0 to 23, got 0 to 22",
        ),
    ],
)
def test_bad_input(change, message):
    inputs = make_inputs().to(torch.float32)
    arguments = dict(
        hidden=inputs.hidden,
        weight=inputs.weight,
        targets=inputs.targets,
        old_logprobs=inputs.old_logprobs,
        advantages=inputs.advantages,
        **inputs.options,
    )
    with pytest.raises(ValueError, match=message):
        linear_policy_loss(**(arguments | change))
