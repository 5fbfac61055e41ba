"""Inputs for the tests of the loss head, and the float64 truth that they are measured against."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Inputs:
    hidden: Tensor
    weight: Tensor
    targets: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    options: dict[str, Any]  # token_idx, temperature, bias, softcap

    def to(self, dtype: torch.dtype, device: str = "cpu") -> "Inputs":
        """Fresh leaves: the head's tensors in ``dtype``, the token data in its accumulation dtype."""
        acc = torch.float64 if dtype is torch.float64 else torch.float32

        def move(x: Any, to: torch.dtype) -> Any:
            if not isinstance(x, Tensor):
                return x
            return x.detach().to(device, to if x.is_floating_point() else x.dtype)

        options = {name: move(x, acc) for name, x in self.options.items()}
        if options.get("bias") is not None:
            options["bias"].requires_grad_()
        hidden, weight = (move(x, dtype).clone().requires_grad_() for x in (self.hidden, self.weight))
        old_logprobs, advantages = move(self.old_logprobs, acc), move(self.advantages, acc)
        return Inputs(hidden, weight, self.targets.to(device), old_logprobs, advantages, options)

    def leaves(self) -> list[Tensor]:
        found = [self.hidden, self.weight, self.options.get("bias")]
        return [x for x in found if x is not None and x.requires_grad]


def make_inputs(
    T: int = 37,
    H: int = 16,
    V: int = 61,
    L: int | None = 23,
    *,
    bias: bool = False,
    softcap: float | None = None,
    temperature: str | float = 1.0,
    logit_scale: float = 1.0,
    seed: int = 0,
) -> Inputs:
    """float64 inputs whose values bf16 can hold; L None: all tokens; temperature "tokens": one per token."""
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(T, H, generator=g).bfloat16().double()
    weight = (torch.randn(V, H, generator=g) * logit_scale / H**0.5).bfloat16().double()
    num_tokens = T if L is None else L
    targets = torch.randint(V, (num_tokens,), generator=g)
    options: dict[str, Any] = {
        "token_idx": None if L is None else torch.randperm(T, generator=g)[:L],
        "temperature": temperature,
        "bias": torch.randn(V, generator=g).bfloat16().double() if bias else None,
        "softcap": softcap,
    }
    if temperature == "tokens":
        options["temperature"] = torch.rand(num_tokens, generator=g).double() + 0.5
    rows = hidden if L is None else hidden[options["token_idx"]]
    logprobs = torch.log_softmax(rows @ weight.T, 1).gather(1, targets[:, None]).squeeze(1)
    old_logprobs = logprobs + 0.4 * torch.randn(num_tokens, generator=g)
    advantages = torch.randn(num_tokens, generator=g)
    advantages[::5] = 0
    return Inputs(hidden, weight, targets, old_logprobs.float().double(), advantages.double(), options)


def relative_error(x: Tensor, truth: Tensor) -> float:
    truth = truth.detach().double()
    return float((x.detach().double() - truth).norm() / truth.norm().clamp(min=1e-30))
