"""A GRPO step of a plain loop, before and after: the same loss and gradients, less time and memory.

    python examples/kernels/plain_loop.py

A quarter of the tokens are the model's own, as in an episode of several turns; the rest is prompt and what
the environment said. Time is CPU time, memory the peak of a step above what was there before it (Linux).
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from lamer_kernels import linear_policy_loss, token_weights

T, H, V = 768, 256, 32_768
LOW, HIGH = 0.2, 0.28


def data() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "hidden": torch.randn(T, H, generator=g).requires_grad_(),
        "weight": (0.05 * torch.randn(V, H, generator=g)).requires_grad_(),
        "targets": torch.randint(V, (T,), generator=g), "mask": torch.rand(T, generator=g) < 0.25,
        "old": -10.5 + 0.3 * torch.randn(T, generator=g), "advantages": torch.randn(T, generator=g),
    }  # fmt: skip


def before(x: dict[str, Tensor]) -> Tensor:
    logits = x["hidden"] @ x["weight"].T
    logprobs = logits.log_softmax(-1).gather(1, x["targets"][:, None])[:, 0]
    ratio = (logprobs - x["old"]).exp()
    surrogate = torch.minimum(ratio * x["advantages"], ratio.clamp(1 - LOW, 1 + HIGH) * x["advantages"])
    return -(surrogate * x["mask"]).sum() / x["mask"].sum()


def after(x: dict[str, Tensor]) -> Tensor:
    idx = x["mask"].nonzero()[:, 0]
    return linear_policy_loss(
        x["hidden"], x["weight"], x["targets"][idx], x["old"][idx], x["advantages"][idx], token_idx=idx,
        token_weights=token_weights("token_mean", x["mask"][idx]), clip_low=LOW, clip_high=HIGH,
    ).loss  # fmt: skip


def peak_mib() -> float | None:
    """Since the last `start_peak`; None where the kernel does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def start_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def step(loss: Callable[[dict[str, Tensor]], Tensor]) -> tuple[float, tuple[Tensor, ...], str]:
    x = data()
    start_peak()
    base, start = peak_mib(), time.process_time()
    value = loss(x)
    gradients = torch.autograd.grad(value, (x["hidden"], x["weight"]))
    seconds, peak = time.process_time() - start, peak_mib()
    memory = "" if base is None or peak is None else f", {peak - base:.0f} MiB"
    return value.item(), gradients, f"{seconds:.2f} CPU-s{memory}"


def main() -> None:
    torch.set_num_threads(1)
    step(after)  # imports and warms up
    results = {loss.__name__: step(loss) for loss in (before, after)}
    for name, (value, _, cost) in results.items():
        print(f"{name:6}  loss {value:.7f}, {cost}")
    pairs = zip(results["before"][1], results["after"][1], strict=True)
    for name, (theirs, ours) in zip(("hidden", "weight"), pairs, strict=True):
        print(f"gradient of {name}: relative difference {float((ours - theirs).norm() / theirs.norm()):.1e}")


if __name__ == "__main__":
    main()
