"""Launches of every Triton kernel, in one form or in each that the launchers can choose."""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch

HALF, SHORT, SINGLE, DOUBLE = torch.bfloat16, torch.float16, torch.float32, torch.float64
V = 61


def each_once() -> None:
    launch_all()
    launch_layers(HALF, H=64, update=True)
    launch_rotary(HALF, D=16, rotated=8, has_norm=True)
    launch_cached_attention(HALF, heads=4, kv_heads=2, D=16, rows=2)
    launch_meta(SINGLE, {"scale": "std", "baseline": "leave_one_out"})
    launch_meta(SINGLE, {"estimator": "reinforce++"})


def launch_all(start=0, num_rows=3):
    """Every kernel of the package once, on rows of longer tensors from ``start`` on."""
    from lamer_kernels.credit.groups import gpu as groups
    from lamer_kernels.credit.returns import gpu as returns
    from lamer_kernels.head.divergence.launch import divergence_rows
    from lamer_kernels.head.divergence.rows import Rows
    from lamer_kernels.head.logprob import launch
    from lamer_kernels.head.logprob.cpu import RowGrads, RowStats
    from lamer_kernels.head.policy.launch import policy_rows, policy_terms
    from lamer_kernels.head.policy.terms import LossConfig, TokenData
    from lamer_kernels.head.projection import Head

    rows = slice(start, start + num_rows)
    logits, per_row = torch.zeros(num_rows, V), torch.zeros(40)[rows]
    targets = torch.zeros(40, dtype=torch.int64)[rows]
    head = Head(torch.zeros(V, 2), None, None, per_row)
    launch.row_stats(logits, targets, head, per_row, entropy=True, sum_sq=True)
    stats, grads = RowStats(*[per_row] * 5), RowGrads(*[per_row] * 3)
    launch.write_dlogits(None, logits, targets, stats, grads, head, per_row, torch.float32)
    config = LossConfig(
        loss="clip", clip_low=0.2, clip_high=0.2, dual_clip=None, log_ratio_clip=None, kl="k3", kl_coef=0.1,
        kl_clip=None, entropy_coef=0.1,
    )  # fmt: skip
    policy_rows(logits, targets, head, per_row, TokenData(*[per_row] * 5), config, torch.float32)
    policy_terms(config, per_row, per_row, TokenData(*[per_row] * 5))
    outputs = (per_row, per_row, per_row)
    rows = Rows(targets, per_row, outputs, "jensen_shannon", 0.5, 0.7, torch.float32)
    divergence_rows(logits, logits, rows)
    ids = torch.arange(num_rows)
    if num_rows:
        groups.group_advantages(per_row, ids, None, None, None, "turn", "mean", "std", "zero", 1e-6)
    returns.run([per_row, per_row, ids, ids, torch.tensor([0, num_rows])], (per_row, per_row), (1.0,) * 4,
                paper=True, gae=False)  # fmt: skip


def launch_meta(dtype, switches, index=torch.int64):
    from lamer_kernels.credit.meta import gpu
    from lamer_kernels.credit.switches import Switches, resolve

    ints, x = torch.zeros(8, dtype=index), torch.zeros(8, dtype=dtype)
    anchors = torch.zeros(8, dtype=torch.int64) if switches.get("estimator", "gigpo") == "gigpo" else None
    cu_trials = torch.tensor([0, 3, 8], dtype=torch.int32 if index is torch.int32 else torch.int64)
    valid = torch.ones(8, dtype=torch.bool)
    columns = (x, ints.to(torch.uint8), ints, ints, cu_trials, anchors, valid)
    gpu.meta_advantages(columns, resolve(Switches(**switches)))


def launch_layers(dtype, *, H, update):
    from lamer_kernels.layers.embedding import gpu as embedding
    from lamer_kernels.layers.rms_norm import gpu as norm
    from lamer_kernels.layers.swiglu import gpu as swiglu

    T = 3
    x, weight, factors = torch.zeros(T, H, dtype=dtype), torch.zeros(H, dtype=dtype), torch.zeros(T)
    norm.forward(x, x if update else None, weight, 1e-6)
    norm.backward(x, x if update else None, x, weight, factors)
    embedding.backward(x, torch.zeros(T, dtype=torch.int64), 5)
    swiglu.backward(x, torch.zeros(T, 2 * H, dtype=dtype))
    swiglu.forward(torch.zeros(T, 2 * H, dtype=dtype))


def launch_rotary(dtype, *, D, rotated, has_norm):
    from lamer_kernels.layers.rotary import gpu as rotary

    T, heads, kv = 3, 4, 2
    qkv, positions = torch.zeros(T, heads + 2 * kv, D, dtype=dtype), torch.zeros(T, dtype=torch.int64)
    cos = torch.zeros(T, rotated)
    weights = (torch.zeros(D, dtype=dtype),) * 2 if has_norm else (None, None)
    q, k, v, factors = rotary.forward(qkv, positions, cos, cos, kv, *weights, 1e-6)
    rotary.backward(q, k, v, qkv, positions, cos, cos, *weights, factors)


def launch_cached_attention(dtype, *, heads, kv_heads, D, rows):
    """Of 12 new tokens."""
    from lamer_kernels.layers import new_slots
    from lamer_kernels.layers.cached_attention import gpu

    q, k = torch.zeros(12, heads, D, dtype=dtype), torch.zeros(12, kv_heads, D, dtype=dtype)
    at, cu_seqlens = torch.zeros(12, dtype=torch.int64), torch.arange(rows + 1)
    gpu.forward(q, k, k, *new_slots(2, 100, kv_heads, D, dtype), at, at, cu_seqlens, 0.1)


def meta(dtype):
    """Units, scores and statistics one by one; each bracket with and without its options."""
    for unit, score, baseline, index in product(
        ("trial", "episode", "turn"), ("next_return", "zero", "exclude"), ("mean", "leave_one_out"),
        (torch.int16, torch.int32, torch.int64),
    ):  # fmt: skip
        switches = {"stats_unit": unit, "reflection_score": score, "baseline": baseline}
        launch_meta(dtype, switches, index)
    for credit, form, scale, key in product(
        ("cross", "own"), ("paper", "released"), ("none", "std"), ("board", "board+episode")
    ):
        switches = {"episode_credit": credit, "return_form": form, "scale": scale, "anchor_key": key}
        launch_meta(dtype, switches)
    launch_meta(dtype, {"estimator": "reinforce++"})


def cached(dtype):
    """Heads of Llama 3, Qwen2.5, Phi-3, SmolLM2 and odd ones; chunks, and rows of one token each."""
    shapes = [(32, 8, 128), (14, 2, 64), (32, 32, 96), (9, 3, 64), (5, 1, 80), (3, 3, 20)]
    for (heads, kv_heads, D), rows in product(shapes, (2, 12)):
        launch_cached_attention(dtype, heads=heads, kv_heads=kv_heads, D=D, rows=rows)


def layers(dtype):
    for H, update in product((61, 1024, 2560, 8192), (False, True)):
        launch_layers(dtype, H=H, update=update)
    for (D, rotated), has_norm in product(((16, 4), (64, 64), (80, 20), (128, 128)), (False, True)):
        launch_rotary(dtype, D=D, rotated=rotated, has_norm=has_norm)


def credit(dtype):
    from lamer_kernels.credit.groups import gpu as groups
    from lamer_kernels.credit.returns import gpu as returns

    for length, form in product((3, 40, 80, 150, 300, 600, 2000), ("paper", "released", "gae")):
        x = torch.zeros(4 * length, dtype=dtype)
        for phase, episode, cu in (
            (torch.uint8, torch.int16, torch.int64),
            (torch.bool, torch.int32, torch.int32),
            (torch.int64, torch.int64, torch.int64),
        ):
            inputs = [x, x, x.to(phase), x.to(episode), (torch.arange(5) * length).to(cu)]
            returns.run(inputs, (x, x), (0.95, 0.6, 0.9, 0.9), paper=form == "paper", gae=form == "gae")
    ids = torch.arange(300)
    for scale in ("none", "std", "batch_std"):
        scores = torch.zeros(300, dtype=dtype)
        groups.group_advantages(scores, ids, ids, ids, None, "episode", "leave_one_out", scale, "zero", 1e-6)


def heads(vocab):
    """(head, temperature): each part by itself, and all of them."""
    from lamer_kernels.head.projection import Head

    for bias, softcap, rows in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
        temperature = torch.ones(3) if rows else 0.7
        bias_of_head = torch.zeros(vocab) if bias else None
        yield Head(torch.zeros(vocab, 0), bias_of_head, 30.0 if softcap else None, temperature), temperature


def logprob_rows(vocab):
    from lamer_kernels.head.logprob import launch
    from lamer_kernels.head.logprob.cpu import RowGrads, RowStats
    from lamer_kernels.head.projection import new_logits

    targets, per_row = torch.zeros(3, dtype=torch.int64), torch.zeros(3)
    for (head, temperature), first, second in product(heads(vocab), (False, True), (False, True)):
        logits = new_logits(torch.zeros(1), 3, vocab, "triton")
        launch.row_stats(logits, targets, head, temperature, entropy=first, sum_sq=second)
        stats = RowStats(*[per_row] * 5)
        grads = RowGrads(per_row, per_row if first else None, per_row if second else None)
        for dtype in (HALF, SHORT, SINGLE):
            launch.write_dlogits(None, logits, targets, stats, grads, head, temperature, dtype)


LOSS = dict(
    loss="clip", clip_low=0.2, clip_high=0.28, dual_clip=None, log_ratio_clip=None, kl="k3", kl_coef=0.1,
    kl_clip=None, entropy_coef=0.1,
)  # fmt: skip
LOSS_FORMS = [
    {}, {"dual_clip": 3.0}, {"log_ratio_clip": 20.0}, {"kl_clip": (20.0, 10.0)}, {"loss": "cispo"},
    {"loss": "reinforce"}, {"loss": "sapo"}, {"loss": "dppo"}, {"loss": "dppo_kl"}, {"kl": "k1"},
    {"kl": "k2"},
    {"dual_clip": 3.0, "log_ratio_clip": 20.0, "kl_clip": (20.0, 10.0)},
]  # fmt: skip
TOKEN_FORMS = [(), ("old_logprobs",), ("token_weights",), ("ref_logprobs",), ("importance_weights",)]


def policy(vocab):
    """Switches of the loss one by one and together: their product would be 9,216 compilations a target."""
    from lamer_kernels.head.policy.launch import policy_rows, policy_terms
    from lamer_kernels.head.policy.terms import LossConfig, TokenData
    from lamer_kernels.head.projection import new_logits

    targets, per_row = torch.zeros(3, dtype=torch.int64), torch.zeros(3)
    every = {name: per_row for name in ("advantages", *(n for form in TOKEN_FORMS for n in form))}
    plain, *_, whole = list(heads(vocab))
    forms = [(head, {}, ()) for head in heads(vocab)]
    forms += [(head, loss, ()) for head in (plain, whole) for loss in LOSS_FORMS]
    forms += [(plain, {}, absent) for absent in TOKEN_FORMS]
    for dtype, (head, loss, absent) in product((HALF, SHORT, SINGLE), forms):
        tokens = TokenData(**(every | dict.fromkeys(absent)))
        config = LossConfig(**(LOSS | loss))
        logits = new_logits(torch.zeros(1), 3, vocab, "triton")
        policy_rows(logits, targets, head[0], head[1], tokens, config, dtype)
        policy_terms(config, per_row, per_row if config.entropy_coef else None, tokens)


def divergence(vocab):
    from lamer_kernels.head.divergence.launch import divergence_rows
    from lamer_kernels.head.divergence.rows import Rows
    from lamer_kernels.head.projection import new_logits

    targets, per_row = torch.zeros(3, dtype=torch.int64), torch.zeros(3)
    s, t = (new_logits(torch.zeros(1), 3, vocab, "triton") for _ in range(2))
    for kind, ids, dtype in product(
        ("forward", "reverse", "jensen_shannon"), (None, targets), (None, HALF, SHORT, SINGLE)
    ):
        divergence_rows(s, t, Rows(ids, per_row, (per_row,) * 3, kind, 0.5, 0.7, dtype))


LAYERS = (
    "norm_kernel", "norm_gradient_kernel", "embedding_gradient_kernel", "swiglu_kernel",
    "swiglu_gradient_kernel", "rotary_kernel", "rotary_gradient_kernel",
)  # fmt: skip
FLOATS = (HALF, SHORT, SINGLE)

# name -> (launches, the kernels that they launch)
EVERY_FORM: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {}
for make, values, kernels in (
    (meta, (SINGLE, DOUBLE), ("score_kernel", "bracket_kernel", "divide_kernel")),
    (credit, (SINGLE, DOUBLE), ("returns_kernel", "moments_kernel")),
    (layers, FLOATS, LAYERS),
    (cached, FLOATS, ("write_slots_kernel", "cached_attention_kernel")),
    (logprob_rows, (61, 4096, 50_257, 151_936), ("row_stats_kernel", "write_dlogits_kernel")),
    (policy, (61, 50_257, 151_936), ("policy_rows_kernel", "policy_terms_kernel")),
    (divergence, (61, 50_257, 151_936), ("divergence_rows_kernel",)),
):
    for value in values:
        EVERY_FORM[f"{make.__name__} {value}"] = partial(make, value), kernels
