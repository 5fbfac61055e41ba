"""Every Triton kernel compiles for the GPUs it is meant for, through the package's launchers; needs no GPU.

A stand-in driver names the target, and a launch compiles instead of running: signature, specialisation and
launch options are those of a real call. CPU tensors stand for the pointers.
"""

import os
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
import torch

import lamer_kernels
from tests.kernels.test_launches import Driver, launch_all

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)
TARGETS = {  # back end, architecture, threads of a warp; bytes of shared memory that a block may use
    "sm_80": (("cuda", 80, 32), 166_912),
    "sm_90": (("cuda", 90, 32), 232_448),
    "sm_100": (("cuda", 100, 32), 232_448),
    "gfx942": (("hip", "gfx942", 64), 65_536),
}
HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float32, torch.float64


def kernels_of_the_package():
    """Name -> kernel, of all modules `gpu.py`."""
    root = Path(lamer_kernels.__file__).parent
    found = {}
    for path in root.rglob("gpu.py"):
        module = import_module(".".join(["lamer_kernels", *path.relative_to(root).with_suffix("").parts]))
        found |= {name: x for name, x in vars(module).items() if name.endswith("_kernel")}
    return found


@pytest.fixture(params=TARGETS)
def compiled(request, monkeypatch):
    """[(name of the kernel, what came of it)], filled by launches; (the target's limit of shared memory)."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    class Target(Driver):
        def get_current_target(self):
            return GPUTarget(*TARGETS[request.param][0])

        def get_current_stream(self, device):
            return 0

    seen, run = [], JITFunction.run

    def compile_only(kernel, *args, grid, warmup, **options):
        seen.append((kernel.fn.__name__, run(kernel, *args, grid=grid, warmup=True, **options)))

    def forget():  # a kernel keeps what it compiled for "device 0", whatever that is
        for kernel in kernels_of_the_package().values():
            kernel.device_caches.clear()

    monkeypatch.setattr(driver, "_active", Target())
    monkeypatch.setattr(JITFunction, "run", compile_only)
    forget()
    yield seen, TARGETS[request.param][1]
    forget()


def check(compiled, names=None):
    seen, shared_limit = compiled
    assert {name for name, _ in seen} == set(names or kernels_of_the_package())
    for name, kernel in seen:
        assert kernel.asm.get("cubin") or kernel.asm.get("hsaco"), name
        assert kernel.metadata.shared <= shared_limit, name


def test_every_kernel_once(compiled):
    launch_all()
    launch_layers(HALF, H=64, has_norm=True, update=True, rotated=8)
    launch_cached_attention(HALF, heads=4, kv_heads=2, D=16, rows=2)
    launch_meta(SINGLE, {"scale": "std", "baseline": "leave_one_out"})
    launch_meta(SINGLE, {"estimator": "reinforce++"})
    check(compiled)


def launch_meta(dtype, switches, index=torch.int64):
    from lamer_kernels.credit.meta import gpu
    from lamer_kernels.credit.switches import Switches, resolve

    ints, x = torch.zeros(8, dtype=index), torch.zeros(8, dtype=dtype)
    anchors = torch.zeros(8, dtype=torch.int64) if switches.get("estimator", "gigpo") == "gigpo" else None
    cu_trials = torch.tensor([0, 3, 8], dtype=torch.int32 if index is torch.int32 else torch.int64)
    valid = torch.ones(8, dtype=torch.bool)
    columns = (x, ints.to(torch.uint8), ints, ints, cu_trials, anchors, valid)
    gpu.meta_advantages(columns, resolve(Switches(**switches)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_meta_advantages_in_every_form(compiled, dtype):
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
    check(compiled, ["score_kernel", "bracket_kernel", "divide_kernel"])


def launch_layers(dtype, *, H, has_norm, update, rotated):
    from lamer_kernels.layers.embedding import gpu as embedding
    from lamer_kernels.layers.rms_norm import gpu as norm
    from lamer_kernels.layers.rotary import gpu as rotary
    from lamer_kernels.layers.swiglu import gpu as swiglu

    T, heads, kv, D = 3, 4, 2, 16
    x, weight, factors = torch.zeros(T, H, dtype=dtype), torch.zeros(H, dtype=dtype), torch.zeros(T)
    norm.forward(x, x if update else None, weight, 1e-6)
    norm.backward(x, x if update else None, x, weight, factors)
    embedding.backward(x, torch.zeros(T, dtype=torch.int64), 5)
    swiglu.backward(x, torch.zeros(T, 2 * H, dtype=dtype))
    swiglu.forward(torch.zeros(T, 2 * H, dtype=dtype))
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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [HALF, SINGLE, torch.float16], ids=str)
def test_cached_attention_in_every_form(compiled, dtype):
    """Heads of Llama 3, Qwen2.5, Phi-3, SmolLM2 and odd ones; chunks, and rows of one token each."""
    shapes = [(32, 8, 128), (14, 2, 64), (32, 32, 96), (9, 3, 64), (5, 1, 80), (3, 3, 20)]
    for (heads, kv_heads, D), rows in product(shapes, (2, 12)):
        launch_cached_attention(dtype, heads=heads, kv_heads=kv_heads, D=D, rows=rows)
    check(compiled, ["write_slots_kernel", "cached_attention_kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [HALF, SINGLE, torch.float16], ids=str)
def test_layers_in_every_form(compiled, dtype):
    for H, has_norm, update in product((61, 1024, 2560, 8192), (False, True), (False, True)):
        launch_layers(dtype, H=H, has_norm=has_norm, update=update, rotated=8 if update else 4)
    check(
        compiled, [n for n in kernels_of_the_package() if n.startswith(("norm", "rotary", "swiglu", "embed"))]
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_credit_in_every_form(compiled, dtype):
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
        groups.group_advantages(
            torch.zeros(300, dtype=dtype),
            ids,
            ids,
            ids,
            None,
            "episode",
            "leave_one_out",
            scale,
            "zero",
            1e-6,
        )
    check(compiled, ["returns_kernel", "moments_kernel"])


def heads(vocab):
    """(head, temperature): each part by itself, and all of them."""
    from lamer_kernels.head.projection import Head

    for bias, softcap, rows in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)):
        temperature = torch.ones(3) if rows else 0.7
        bias_of_head = torch.zeros(vocab) if bias else None
        yield Head(torch.zeros(vocab, 0), bias_of_head, 30.0 if softcap else None, temperature), temperature


@pytest.mark.slow
@pytest.mark.parametrize("vocab", [61, 4096, 50_257, 151_936])
def test_rows_of_logits_in_every_form(compiled, vocab):
    from lamer_kernels.head.logprob import launch
    from lamer_kernels.head.logprob.cpu import RowGrads, RowStats
    from lamer_kernels.head.projection import new_logits

    targets, per_row = torch.zeros(3, dtype=torch.int64), torch.zeros(3)
    for (head, temperature), first, second in product(heads(vocab), (False, True), (False, True)):
        logits = new_logits(torch.zeros(1), 3, vocab, "triton")
        launch.row_stats(logits, targets, head, temperature, entropy=first, sum_sq=second)
        stats = RowStats(*[per_row] * 5)
        grads = RowGrads(per_row, per_row if first else None, per_row if second else None)
        for dtype in (HALF, torch.float16, SINGLE):
            launch.write_dlogits(None, logits, targets, stats, grads, head, temperature, dtype)
    check(compiled, ["row_stats_kernel", "write_dlogits_kernel"])


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


@pytest.mark.slow
@pytest.mark.parametrize("vocab", [61, 50_257, 151_936])
def test_policy_rows_in_every_form(compiled, vocab):
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
    for dtype, (head, loss, absent) in product((HALF, torch.float16, SINGLE), forms):
        tokens = TokenData(**(every | dict.fromkeys(absent)))
        config = LossConfig(**(LOSS | loss))
        logits = new_logits(torch.zeros(1), 3, vocab, "triton")
        policy_rows(logits, targets, head[0], head[1], tokens, config, dtype)
        policy_terms(config, per_row, per_row if config.entropy_coef else None, tokens)
    check(compiled, ["policy_rows_kernel", "policy_terms_kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("vocab", [61, 50_257, 151_936])
def test_divergence_rows_in_every_form(compiled, vocab):
    from lamer_kernels.head.divergence.launch import divergence_rows
    from lamer_kernels.head.divergence.rows import Rows
    from lamer_kernels.head.projection import new_logits

    targets, per_row = torch.zeros(3, dtype=torch.int64), torch.zeros(3)
    s, t = (new_logits(torch.zeros(1), 3, vocab, "triton") for _ in range(2))
    for kind, ids, dtype in product(
        ("forward", "reverse", "jensen_shannon"), (None, targets), (None, HALF, torch.float16, SINGLE)
    ):
        divergence_rows(s, t, Rows(ids, per_row, (per_row,) * 3, kind, 0.5, 0.7, dtype))
    check(compiled, ["divergence_rows_kernel"])


@pytest.mark.parametrize("vocab", [50_257, 151_669, 151_936])
def test_every_vocabulary_is_read_16_bytes_at_a_time(compiled, vocab):
    from lamer_kernels.head.policy.launch import policy_rows
    from lamer_kernels.head.policy.terms import LossConfig, TokenData
    from lamer_kernels.head.projection import new_logits

    per_row = torch.zeros(3)
    head, temperature = next(heads(vocab))
    logits = new_logits(torch.zeros(1), 3, vocab, "triton")
    tokens = TokenData(per_row, per_row, per_row, None, None)
    policy_rows(logits, per_row.long(), head, temperature, tokens, LossConfig(**LOSS), HALF)
    ((_, kernel),) = compiled[0]
    loads = {
        "cubin": ("ptx", "ld.global.v4", "st.global.v4"),
        "hsaco": ("amdgcn", "load_dwordx4", "store_dwordx"),
    }
    text, load, store = loads["cubin" if "ptx" in kernel.asm else "hsaco"]
    assert load in kernel.asm[text] and store in kernel.asm[text]
