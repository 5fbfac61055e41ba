"""AdamW over float32 masters: schedule, clipping, skipped updates, 8-bit state, offload."""

import math
from typing import Any

import torch
from torch import Tensor

from lamer_fast.config import LearnConfig
from lamer_fast.learn import optimizer_state
from lamer_fast.learn.gradients import Masters


class Optimizer:
    """One `step` is one update, or a skipped one when the gradient is not finite."""

    def __init__(self, masters: Masters, config: LearnConfig, total_updates: int) -> None:
        self.masters = masters
        self.config = config
        self.total_updates = total_updates
        self.num_updates = 0
        self.adamw = _make_adamw(list(masters.values()), config)
        self._host: dict[tuple[Tensor, str], Tensor] = {}  # pinned, where the state is during a rollout

    def lr(self) -> float:
        """Learning rate of the next update."""
        c, update = self.config, self.num_updates
        if update < c.warmup_updates:
            return c.lr * (update + 1) / c.warmup_updates
        if c.schedule == "constant":
            return c.lr
        progress = (update - c.warmup_updates) / max(1, self.total_updates - c.warmup_updates)
        return c.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def zero_grad(self) -> None:
        self.masters.clear()

    def grad_norm(self) -> float:
        """Of the accumulated gradient. Synchronises with the device."""
        return float(self.masters.norm())

    @torch.no_grad()
    def step(self, grad_norm: float | None = None) -> tuple[float, bool]:
        """Clips and applies the accumulated gradient, then clears it; (its norm before clipping, applied).

        A gradient that is not finite changes nothing.

        Args:
            grad_norm: of the accumulated gradient, from who knows it already.
        """
        if grad_norm is None:
            grad_norm = self.grad_norm()
        applied = math.isfinite(grad_norm)
        if applied:
            scale = self.config.max_grad_norm / (grad_norm + 1e-6)
            if scale < 1.0:
                self.masters.scale(scale)
            for group in self.adamw.param_groups:
                group["lr"] = self.lr()
            self.adamw.step()
            self.num_updates += 1
            self.masters.publish()
        self.zero_grad()
        return grad_norm, applied

    def state_tensors(self) -> dict[str, Tensor]:
        """`MASTER/KEY` -> tensor of everything AdamW remembers."""
        return optimizer_state.state_tensors(self.adamw.state, self.masters)

    def check_state_tensors(self, tensors: dict[str, Tensor], num_updates: int) -> None:
        """Raises ValueError naming a tensor that this optimizer cannot have after `num_updates`."""
        optimizer_state.check_state_tensors(tensors, self.masters, self.config.optimizer, num_updates)

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `state_tensors`, for tensors that were checked."""
        optimizer_state.load_state_tensors(self.adamw.state, self.masters, tensors)

    def to_host(self) -> None:
        """Moves the state off the device; the rollout has the memory then. `to_device` undoes it."""
        for master, state in self.adamw.state.items():
            for key, value in _large(state):
                if value.device.type == "cpu":
                    continue
                place = (master, key)
                if place not in self._host:  # kept, since pinning takes longer than copying
                    self._host[place] = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
                state[key] = self._host[place].copy_(value, non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def to_device(self) -> None:
        for master, state in self.adamw.state.items():
            for key, value in _large(state):
                state[key] = value.to(master.device, non_blocking=True)


def _large(state: dict[str, Any]) -> list[tuple[str, Tensor]]:
    return [(key, x) for key, x in state.items() if isinstance(x, Tensor) and x.numel() > 1]


def _make_adamw(masters: list[Tensor], config: LearnConfig) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {
        "lr": config.lr,
        "betas": (config.beta1, config.beta2),
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(masters, fused=True, **settings)
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError:
        raise ValueError(
            "learn.optimizer = 'adamw_8bit' needs bitsandbytes, which is not installed: "
            "pip install 'lamer-fast[adamw8bit]'"
        ) from None
    optimizer: torch.optim.Optimizer = AdamW8bit(masters, **settings)
    return optimizer
