"""Masters: the float32 parameters that are trained, and the one place where their gradients are summed."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from lamer_fast.learn.ranks import Ranks


class Masters(Mapping[str, Tensor]):
    """Name -> master of every parameter that is trained; tied weights appear once. Empty when frozen.

    The model's parameters have the compute dtype, so that sampler and trainer read the same tensors. With
    float32 compute they ARE the masters. With bf16 the masters stand beside them: each parameter's gradient
    moves into its master's sum as soon as it is whole, `publish` rounds the masters into the model.

    Of a model with adapters these alone are trained: float32 beside a base of any type, their own masters.

    A sum is the master's `grad`, added to in place by every micro-batch; `reduce` adds those of the other
    ranks, once per update. Whoever reads gradients, weights or masters does it through the methods here.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype, *, frozen: bool, adapters: Set[str] = frozenset()
    ) -> None:
        self._parameters = dict(model.named_parameters())
        self._rounded = dtype is not torch.float32
        self._masters: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            if name in adapters and not frozen:
                self._masters[name] = parameter
                continue
            if frozen or adapters:
                parameter.requires_grad_(False)
            elif self._rounded:
                self._masters[name] = parameter.data.float().clone()
                hook = _move_into(self._masters[name])
                parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
            else:
                self._masters[name] = parameter
            parameter.data = parameter.data.to(dtype)  # parameters only: rotary tables stay float32

    def __getitem__(self, name: str) -> Tensor:
        return self._masters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masters)

    def __len__(self) -> int:
        return len(self._masters)

    @property
    def num_elements(self) -> int:
        return sum(master.numel() for master in self.values())

    def sum_of(self, parameter: Tensor) -> Tensor | None:
        """Where this parameter's gradient is summed, for who computes it and adds it without autograd.

        Float32, in the parameter's shape; zeros when nothing has been added since `clear`. None: it is not
        trained.
        """
        master = self.get(next(name for name, p in self._parameters.items() if p is parameter))
        if master is None:
            return None
        if master.grad is None:
            master.grad = torch.zeros_like(master)
        return master.grad

    @torch.no_grad()
    def reduce(self, ranks: Ranks) -> None:
        """Adds the sums of all ranks: each has the same ones then. A rank that added nothing has zeros."""
        if ranks.world == 1:
            return
        added = ranks.gather([master.grad is not None for master in self.values()])
        for master, *flags in zip(self.values(), *added, strict=True):
            if master.grad is None and any(flags):
                master.grad = torch.zeros_like(master)
        ranks.add_up(self.gradients())

    def gradients(self) -> list[Tensor]:
        """The sums, of masters that got one since `clear`."""
        return [master.grad for master in self.values() if master.grad is not None]

    def norm(self) -> Tensor:
        """Euclidean norm of all sums together, a 0-d tensor."""
        return torch.nn.utils.get_total_norm(self.gradients())

    def scale(self, factor: float) -> None:
        """Multiplies all sums."""
        torch._foreach_mul_(self.gradients(), factor)

    def clear(self) -> None:
        for master in self.values():
            master.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the model's parameters."""
        if self._rounded:
            for name, master in self.items():
                if self._parameters[name] is not master:
                    self._parameters[name].copy_(master)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Full tensors in the compute dtype, one at a time; of a frozen model too."""
        for name, parameter in self._parameters.items():
            yield name, parameter.detach()

    def saved(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: each master whole."""
        return {name: master.detach() for name, master in self.items()}

    @torch.no_grad()
    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Inverse of `saved`, for tensors that were checked."""
        for name, master in self.items():
            master.copy_(saved[name])
        self.publish()


def _move_into(master: Tensor) -> Any:
    """Hook that moves a parameter's gradient into its master's float32 one."""

    def hook(parameter: Tensor) -> None:
        gradient, total = parameter.grad, master.grad
        assert gradient is not None
        if total is None:
            master.grad = gradient.float()
        else:
            total.add_(gradient)
        parameter.grad = None

    return hook
