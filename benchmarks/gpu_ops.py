"""Every Triton op once on the GPU, at small odd sizes, against its float64 reference.

Small enough for a memory checker: `compute-sanitizer --error-exitcode 9 python benchmarks/gpu_ops.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from lamer_kernels import (
    anchor_groups,
    cross_episode_returns,
    discounted_returns,
    gae,
    group_advantages,
    linear_logprob,
    linear_policy_loss,
    meta_advantages,
    policy_loss,
    varlen_attention,
)
from lamer_kernels.layers import add_rms_norm, cached_attention, embedding, new_slots, rotary, swiglu
from tests.kernels.credit import make_trials
from tests.kernels.head import make_inputs, relative_error

Tensors = tuple[torch.Tensor, ...]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def credit_cases() -> Iterator[tuple[str, torch.dtype, Callable[[str], Tensors]]]:
    """(name, dtype, call); `call("cuda")` and `call("reference")` are compared."""
    for dtype in (np.float64, np.float32):
        turns = make_trials(0, groups=5, trials=7, max_turns=37, dtype=dtype)
        columns = [turns[name] for name in ("rewards", "phase", "episode", "cu_trials")]
        kind = torch.from_numpy(columns[0]).dtype

        def on(device: str, *arrays: np.ndarray) -> list[torch.Tensor]:
            return [torch.from_numpy(x).to("cpu" if device == "reference" else device) for x in arrays]

        def call(function, *arrays, **options):
            def run(device: str) -> Tensors:
                backend = "reference" if device == "reference" else "triton"
                keywords = {
                    k: on(device, v)[0] if isinstance(v, np.ndarray) else v for k, v in options.items()
                }
                out = function(*on(device, *arrays), **keywords, backend=backend)
                return out if isinstance(out, tuple) else (out,)

            return run

        gammas = {"gamma_step": 0.9, "gamma_traj": 0.7}
        for form in ("paper", "released"):
            yield (
                f"returns {form}",
                kind,
                call(cross_episode_returns, *columns, return_form=form, **gammas),
            )
        offsets = np.array([0, 0, 17, 33, len(columns[0])], np.int64)
        yield "discounted returns", kind, call(discounted_returns, columns[0], offsets, gamma=0.5)
        values = np.random.default_rng(0).standard_normal(len(columns[0])).astype(dtype)
        yield (
            "gae",
            kind,
            call(gae, columns[0], values, *columns[1:], **gammas, lambda_step=0.8, lambda_traj=0.5),
        )
        yield "groups", kind, call(group_advantages, columns[0], turns["group"], scale="std")
        yield "anchors", kind, call(anchor_groups, turns["group"], turns["anchors"])
        for estimator in ("gigpo", "grpo", "rloo", "reinforce++"):
            yield (
                f"meta {estimator}",
                kind,
                call(meta_advantages, columns[0], columns[1], columns[2], turns["group"], columns[3],
                     anchors=turns["anchors"], valid=turns["valid"], estimator=estimator),
            )  # fmt: skip
            yield (
                f"meta {estimator}, grouped",
                kind,
                call(meta_advantages, columns[0], columns[1], columns[2], turns["group"], columns[3],
                     anchors=turns["anchors"], valid=turns["valid"], estimator=estimator, grouped=True),
            )  # fmt: skip


def head_cases() -> Iterator[tuple[str, torch.dtype, Callable[[str], Tensors]]]:
    losses = {
        "clip": {}, "clip, KL, entropy": {"kl_coef": 0.1, "entropy_coef": 0.01}, "cispo": {"loss": "cispo"},
        "reinforce": {"loss": "reinforce"}, "sapo": {"loss": "sapo"}, "dppo": {"loss": "dppo"},
        "dppo_kl": {"loss": "dppo_kl"}, "gspo": {"loss": "gspo"},
    }  # fmt: skip
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for vocab in (61, 8192 + 5):
            made = make_inputs(V=vocab, bias=True, softcap=6.0, temperature="tokens")

            def inputs(device: str, made=made, dtype=dtype):
                return made.to(torch.float64) if device == "reference" else made.to(dtype, device)

            def logprob(device: str, inputs=inputs) -> Tensors:
                x = inputs(device)
                backend = "reference" if device == "reference" else "triton"
                out = linear_logprob(
                    x.hidden, x.weight, x.targets, **x.options, entropy=True, backend=backend
                )
                loss = out.logprobs.sum() + out.entropy.sum()
                return (out.logprobs, out.entropy, *torch.autograd.grad(loss, x.leaves()))

            yield f"linear_logprob, V {vocab}", dtype, logprob
            for name, options in losses.items():

                def policy(device: str, inputs=inputs, options=options) -> Tensors:
                    x = inputs(device)
                    backend = "reference" if device == "reference" else "triton"
                    extra = {"cu_segments": torch.tensor([0, 9, 23])} if "gspo" in options.values() else {}
                    if "kl_coef" in options:
                        extra["ref_logprobs"] = x.old_logprobs + 0.1
                    extra = {k: v.to(x.hidden.device) for k, v in extra.items()}
                    out = linear_policy_loss(
                        x.hidden, x.weight, x.targets, x.old_logprobs, x.advantages,
                        **x.options, **options, **extra, backend=backend,
                    )  # fmt: skip
                    return (out.loss, *torch.autograd.grad(out.loss, x.leaves()))

                yield f"linear_policy_loss {name}, V {vocab}", dtype, policy

    g = torch.Generator().manual_seed(0)
    columns = [0.5 * torch.randn(37, generator=g) - 2 for _ in range(4)]

    def terms(device: str) -> Tensors:
        exact = device == "reference"
        place = {"device": "cpu", "dtype": torch.float64} if exact else {"device": device}
        logprobs, old, advantages, ref = (x.to(**place) for x in columns)
        out = policy_loss(
            logprobs.requires_grad_(), old, advantages, ref_logprobs=ref, kl_coef=0.1, dual_clip=3.0,
            backend="reference" if exact else "triton",
        )  # fmt: skip
        return (out.loss, out.ratio, out.kl, *torch.autograd.grad(out.loss, logprobs))

    yield "policy_loss", torch.float32, terms


def attention_cases() -> Iterator[tuple[str, torch.dtype, Callable[[str], Tensors]]]:
    g = torch.Generator().manual_seed(0)
    lengths = [1, 130, 0, 65]
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for heads, kv_heads, dim in ((4, 2, 64), (4, 4, 128)):
            total = sum(lengths)
            q, k, v = (torch.randn(total, n, dim, generator=g).to(dtype) for n in (heads, kv_heads, kv_heads))

            def call(device: str, tensors=(q, k, v)) -> Tensors:
                place = (
                    {"device": "cpu", "dtype": torch.float64} if device == "reference" else {"device": device}
                )
                x = [t.to(**place).requires_grad_() for t in tensors]
                out = varlen_attention(*x, offsets.to(x[0].device), max(lengths), True)
                return (out, *torch.autograd.grad(out.square().sum(), x))

            yield f"varlen_attention {heads}:{kv_heads}, D {dim}", dtype, call


def layer_cases() -> Iterator[tuple[str, torch.dtype, Callable[[str], Tensors]]]:
    g = torch.Generator().manual_seed(0)
    angles = torch.arange(40)[:, None] * 10.0 ** -torch.arange(12)
    positions = torch.randint(40, (37,), generator=g)

    def turned(qkv: torch.Tensor, q: torch.Tensor, k: torch.Tensor, **options) -> Tensors:
        fixed = {"positions": positions, "cos": angles.cos(), "sin": angles.sin()}
        fixed = {name: x.to(qkv.device) for name, x in fixed.items()}
        return rotary(qkv, **fixed, num_kv_heads=2, q_norm=q, k_norm=k, **options)

    ops = {
        "add_rms_norm": (lambda *x, **o: add_rms_norm(*x, eps=1e-5, **o), [(37, 301), (37, 301), (301,)]),
        "rotary": (turned, [(37, 9, 32), (32,), (32,)]),
        "swiglu": (lambda x, **o: (swiglu(x, **o),), [(37, 2 * 1031)]),
        "embedding": (lambda w, **o: (embedding(positions.to(w.device), w, **o),), [(41, 301)]),
    }
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for name, (function, shapes) in ops.items():
            tensors = [torch.randn(shape, generator=g).to(dtype) for shape in shapes]

            def call(device: str, function=function, tensors=tensors) -> Tensors:
                exact = device == "reference"
                place = {"device": "cpu", "dtype": torch.float64} if exact else {"device": device}
                x = [t.to(**place).requires_grad_() for t in tensors]
                out = function(*x, backend="reference" if exact else "triton")
                return (*out, *torch.autograd.grad(sum(y.square().sum() for y in out), x))

            yield name, dtype, call


def cache_cases() -> Iterator[tuple[str, torch.dtype, Callable[[str], Tensors]]]:
    """A chunk of a prompt beside decoding rows, then decoding alone; slot -1 is padding."""
    g = torch.Generator().manual_seed(0)
    passes = [({2: 130, 0: 1, -1: 5}, {2: 0, 0: 0, -1: 0}), ({0: 1, 2: 1, -1: 1}, {0: 1, 2: 130, -1: 0})]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for heads, kv_heads, dim in ((4, 2, 64), (5, 1, 128)):
            made = [
                [torch.randn(sum(rows), n, dim, generator=g).to(dtype) for n in (heads, kv_heads, kv_heads)]
                for rows in (p[0].values() for p in passes)
            ]

            def call(device: str, made=made, kv_heads=kv_heads, dim=dim, dtype=dtype) -> Tensors:
                exact = device == "reference"
                place, kind = ("cpu", torch.float64) if exact else (device, dtype)
                cache, out = new_slots(3, 200, kv_heads, dim, kind, place), []
                for (rows, starts), qkv in zip(passes, made, strict=True):
                    counts = torch.tensor(list(rows.values()))
                    slots = torch.tensor(list(rows)).repeat_interleave(counts)
                    at = torch.cat([torch.arange(n) + starts[slot] for slot, n in rows.items()])
                    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
                    tensors = [x.to(place, kind) for x in qkv]
                    backend = "reference" if exact else "triton"
                    index = [x.to(place) for x in (slots, at, offsets)]
                    out.append(cached_attention(*tensors, *cache, *index, backend=backend))
                return (*out, *cache)

            yield f"cached_attention {heads}:{kv_heads}, D {dim}", dtype, call


def main() -> int:
    if not torch.cuda.is_available():
        print("needs a CUDA device: torch.cuda.is_available() is False")
        return 2
    failed = 0
    cases = (*credit_cases(), *head_cases(), *attention_cases(), *layer_cases(), *cache_cases())
    for name, dtype, call in cases:
        try:
            ours, truth = call("cuda"), call("reference")
            torch.cuda.synchronize()
            error = max(relative_error(x.cpu(), y) for x, y in zip(ours, truth, strict=True))
            good = error <= TOLERANCE[dtype]
            text = f"{error:.1e} of {TOLERANCE[dtype]:.0e}"
        except Exception as reason:
            good, text = False, f"{type(reason).__name__}: {str(reason)[:300]}"
        failed += not good
        print(
            f"{'pass' if good else 'FAIL'}  {name:<45} {str(dtype).removeprefix('torch.'):<9} {text}",
            flush=True,
        )
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
