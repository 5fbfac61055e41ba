"""One micro-batch, sequences end to end without padding: what a trunk needs, and what a loss needs beside it.

Axis letters: S sequences, T packed tokens, L loss tokens, U segments (turns).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """`hidden[token_idx[l]]` predicts `targets[l]`: no other position ever reaches the lm_head."""

    input_ids: Tensor  # [T] int64
    position_ids: Tensor  # [T] int64, from 0 in each sequence
    cu_seqlens: Tensor  # [S+1] int32; of a prefix tree: of what shares no token
    max_seqlen: int
    token_idx: Tensor  # [L] int64; of a prefix tree: perhaps with repeats
    targets: Tensor  # [L] int64
    subtree_end: Tensor | None = (
        None  # [T] int32: common beginnings are held once, see lamer_kernels.PrefixTree
    )

    def to(self, device: torch.device | str) -> "Packed":
        return replace(self, **send(self.tensors(), device))  # type: ignore[arg-type]

    def tensors(self) -> dict[str, Tensor]:
        return {name: x for name, x in vars(self).items() if isinstance(x, Tensor)}


@dataclass(frozen=True)
class PolicyBatch:
    """One micro-batch as a loss sees it: T packed tokens, of which L are trained, in U segments (turns).

    Frozen: code that adds log-probabilities makes another batch, see `score` and `update`.
    """

    packed: Packed  # the sequences, and which of their tokens are trained
    rollout_logprobs: Tensor  # [L] float32, nats, from the sampler
    advantages: Tensor  # [L] float32, the turn's advantage on each of its tokens; on the host
    token_weights: Tensor  # [L] float32, on the host: the minibatch's loss is sum(token_weights * loss)
    temperature: float  # of the sampling; log-probabilities are taken after it
    cu_segments: Tensor  # [U+1] int64 into L
    old_logprobs: Tensor | None = None  # [L] float32, nats; None: they are those of the next forward pass
    ref_logprobs: Tensor | None = None  # [L] float32, only when kl_coef > 0
    old_values: Tensor | None = None  # [U] float32, of the critic before the first update, where there is one
    returns: Tensor | None = None  # [U] float32, what it is trained towards
    num_turns: int = 0  # of the whole minibatch, on all ranks
    turns: NDArray[np.int64] | None = None  # [U] rows of the turn table that the segments are, on the host

    def to(self, device: torch.device | str) -> "PolicyBatch":
        """On the device, but for what stays on the host: there the loss head sees which tokens it can leave
        out, without a synchronisation, so that it computes the same ones on every device."""
        moved = send({name: x for name, x in self.tensors().items() if name not in ON_HOST}, device)
        inner = self.packed.tensors().keys()
        packed = replace(self.packed, **{name: moved.pop(name) for name in inner})  # type: ignore[arg-type]
        more: dict[str, Any] = dict(moved)
        if torch.device(device).type == "cuda":  # the head's copies of them wait for nobody
            more |= {name: vars(self)[name].pin_memory() for name in ON_HOST}
        return replace(self, packed=packed, **more)

    def tensors(self) -> dict[str, Tensor]:
        """All of them by their names, those of `packed` too."""
        return self.packed.tensors() | {name: x for name, x in vars(self).items() if isinstance(x, Tensor)}


ON_HOST = ("advantages", "token_weights")


def send(tensors: dict[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """The tensors on a device, by one copy that the host does not wait for. They share its memory there."""
    device = torch.device(device)
    if all(x.device.type == device.type for x in tensors.values()):
        return {name: x.to(device) for name, x in tensors.items()}
    starts, end = [], 0
    for x in tensors.values():
        starts.append(end)
        end += -(-x.nbytes // 16) * 16
    packed = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for x, start in zip(tensors.values(), starts, strict=True):
        packed[start : start + x.nbytes].view(x.dtype).view(x.shape).copy_(x)
    sent = packed.to(device, non_blocking=True)
    return {
        name: sent[start : start + x.nbytes].view(x.dtype).view(x.shape)
        for (name, x), start in zip(tensors.items(), starts, strict=True)
    }


Minibatch = list[PolicyBatch]  # what one update sees
