"""Masters: the float32 parameters that are trained, and the one place where their gradients are summed."""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamer_fast.learn.fsdp import shard_fully
from lamer_fast.learn.ranks import Ranks
from lamer_fast.model.rows import rows_of, summed_rows, whole

Shard = Literal["none", "optimizer", "full"]


class Masters(Mapping[str, Tensor]):
    """Name -> master of every parameter that is trained; tied weights appear once. Empty when frozen.

    The model's parameters have the compute dtype, so that sampler and trainer read the same tensors. With
    float32 compute they ARE the masters. With bf16 the masters stand beside them: each parameter's gradient
    moves into its master's sum as soon as it is whole, `publish` rounds the masters into the model.

    Of a model with adapters these alone are trained: float32 beside a base of any type, their own masters.

    A sum is the master's `grad`, added to in place by every micro-batch; `reduce` adds those of the other
    ranks, once per update. After `shard` a master is a DTensor of which each rank has some rows; its sum
    stands beside it, whole, until `reduce`. After `shard_fully` the masters are the model's only parameters,
    and FSDP2 sums their gradients. Whoever reads gradients, weights or masters does it through the methods
    here.

    Args:
        whole: False: `shard_fully` follows, until which the parameters stay as they were read.
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        *,
        frozen: bool,
        adapters: Set[str] = frozenset(),
        whole: bool = True,
    ) -> None:
        self._model, self._dtype = model, dtype
        self._parameters = dict(model.named_parameters())
        self._apart = dtype is not torch.float32 and whole  # the masters, from the model's parameters
        self._masters: dict[str, Tensor] = {}
        self._whole_sums: dict[str, Tensor] | None = None  # of masters sharded apart
        self._fully = False
        for name, parameter in self._parameters.items():
            if name in adapters and not frozen:
                self._masters[name] = parameter
                continue
            if frozen or adapters:
                parameter.requires_grad_(False)
            elif self._apart:
                self._masters[name] = parameter.data.float().clone()
                self._move_gradients(name)
            else:
                self._masters[name] = parameter
            if whole:
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
        trained, or FSDP2 sums what autograd gives.
        """
        if self._fully:
            return None
        name = next(name for name, p in self._parameters.items() if p is parameter)
        if name not in self:
            return None
        total = self._sum(name)
        if total is None:
            total = self._begin_sum(name, torch.zeros_like(parameter, dtype=torch.float32))
        return total

    @property
    def division(self) -> Shard:
        """What each rank has rows of, alone."""
        return "full" if self._fully else "none" if self._whole_sums is None else "optimizer"

    @property
    def is_sharded(self) -> bool:
        return self.division != "none"

    @torch.no_grad()
    def shard(self, ranks: Ranks) -> None:
        """Leaves this rank its rows of each master, and so of its gradient and of optimizer state.

        Called once, before there are gradients and an optimizer. The model's parameters stay whole.
        """
        self._whole_sums = {}
        for name, master in self.items():
            if self._parameters[name] is master:
                self._move_gradients(name)
            self._masters[name] = rows_of(master.detach(), ranks.mesh)
        self._apart = True

    @torch.no_grad()
    def shard_fully(self, layers: Iterable[nn.Module], ranks: Ranks) -> Any:
        """Leaves this rank its rows of each parameter, see `fsdp.shard_fully`, on the ranks' device.

        Called once, before there are gradients and an optimizer.
        """
        trained = list(self._masters)
        for name in trained:  # nothing else holds a master: one after another is cut
            self._parameters[name].data = self._masters.pop(name).detach()
        found = shard_fully(self._model, layers, ranks.mesh, self._dtype)
        self._parameters = dict(self._model.named_parameters())
        self._masters = {name: self._parameters[name] for name in trained}
        self._apart, self._fully = False, True
        return found

    @torch.no_grad()
    def reduce(self, ranks: Ranks) -> None:
        """Adds the sums of all ranks, of which each keeps its rows where masters are sharded, else all.

        A rank that added nothing has zeros.
        """
        if ranks.world == 1 or self._fully:
            return
        added = ranks.gather([self._sum(name) is not None for name in self])
        for name, *flags in zip(self, *added, strict=True):
            if any(flags) and self._sum(name) is None:
                self._begin_sum(name, torch.zeros_like(self._parameters[name], dtype=torch.float32))
        if self._whole_sums is None:
            ranks.add_up(self.gradients())
            return
        for name, master in self.items():  # each is freed before the next
            if name in self._whole_sums:
                with ranks.waiting():
                    master.grad = summed_rows(self._whole_sums.pop(name), master)

    def gradients(self) -> list[Tensor]:
        """The sums, of masters that got one since `clear`."""
        return [master.grad for master in self.values() if master.grad is not None]

    def norm(self) -> Tensor:
        """Euclidean norm of all sums together, a 0-d tensor."""
        return whole(torch.nn.utils.get_total_norm(self.gradients()))

    def scale(self, factor: float) -> None:
        """Multiplies all sums."""
        torch._foreach_mul_(self.gradients(), factor)

    def clear(self) -> None:
        for master in self.values():
            master.grad = None
        if self._whole_sums:
            self._whole_sums.clear()

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the model's parameters; where they are sharded, one after another."""
        if self._apart:
            for name, master in self.items():
                parameter = self._parameters[name]
                if parameter is not master:
                    parameter.copy_(whole(master.to(parameter.dtype)) if self.is_sharded else master)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Full tensors in the compute dtype, of a frozen model too; gathered one at a time."""
        for name, parameter in self._parameters.items():
            yield name, whole(parameter.detach().to(self._dtype)) if self._fully else parameter.detach()

    def saved(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: each master, whole or this rank's rows."""
        return {name: master.detach() for name, master in self.items()}

    @torch.no_grad()
    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Inverse of `saved`, for tensors that were checked. Sharded, all ranks have to `publish` then."""
        for name, master in self.items():
            master.copy_(saved[name])
        if not self.is_sharded:
            self.publish()

    def _sum(self, name: str) -> Tensor | None:
        return self[name].grad if self._whole_sums is None else self._whole_sums.get(name)

    def _begin_sum(self, name: str, first: Tensor) -> Tensor:
        if self._whole_sums is None:
            self[name].grad = first
        else:
            self._whole_sums[name] = first
        return first

    def _move_gradients(self, name: str) -> None:
        """A parameter's gradient moves into the sum as soon as it is whole."""

        def hook(parameter: Tensor) -> None:
            gradient, total = parameter.grad, self._sum(name)
            assert gradient is not None
            if total is None:
                self._begin_sum(name, gradient.float())
            else:
                total.add_(gradient)
            parameter.grad = None

        self._parameters[name].register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
