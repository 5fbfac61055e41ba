"""The loss heads of TRL, Liger, verl and cut-cross-entropy, each at its best settings, behind one call.

Each function takes a `HeadCase` and returns the scalar loss; autograd does the rest. None of them takes token
advantages through its fused loss, so the cases have one advantage per sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .peers import Peer, present

CLIP_LOW, CLIP_HIGH = 0.2, 0.28


@dataclass
class HeadCase:
    """S sequences of equal length, T = S * length tokens; `loss_mask` tells the loss tokens."""

    hidden: Tensor  # [T, H]
    weight: Tensor  # [V, H]
    targets: Tensor  # [T]
    old_logprobs: Tensor  # [T]
    advantages: Tensor  # [S]
    loss_mask: Tensor  # [S, length] bool

    @cached_property
    def _token_idx(self) -> Tensor:
        return self.loss_mask.flatten().nonzero().squeeze(1)

    def token_idx(self) -> Tensor:
        """Known before, as in a trainer: to find them out is to wait for a GPU."""
        return self._token_idx

    def clip_loss(self, logprobs: Tensor, idx: Tensor | None = None) -> Tensor:
        """The mean over loss tokens of the clipped surrogate, as TRL writes it."""
        advantages = self.advantages.repeat_interleave(self.loss_mask.shape[1])
        old, mask = self.old_logprobs, self.loss_mask.flatten().float()
        if idx is not None:
            advantages, old, mask = advantages[idx], old[idx], mask[idx]
        ratio = torch.exp(logprobs.flatten() - old)
        bounded = torch.clamp(ratio, 1 - CLIP_LOW, 1 + CLIP_HIGH)
        return (-torch.min(ratio * advantages, bounded * advantages) * mask).sum() / mask.sum()


Loss = Callable[[HeadCase], Tensor]


def find_peers(device: str) -> dict[str, Loss]:
    """name -> loss function of every peer that can be imported here; prints the names of the others."""
    return present(PEERS, device)


def _trl(log_softmax: Any) -> Loss:
    def loss(case: HeadCase) -> Tensor:
        logits = (case.hidden @ case.weight.to(case.hidden.dtype).T).view(*case.loss_mask.shape, -1)
        targets = case.targets.view(case.loss_mask.shape)
        logprobs, _ = log_softmax(logits, targets, entropy_requires_grad=False)
        return case.clip_loss(logprobs.float())

    return loss


def _trl_chunked(function: Any) -> Loss:
    def loss(case: HeadCase) -> Tensor:  # compacts to the loss tokens, as its patched lm_head does
        idx = case.token_idx()
        hidden, targets = case.hidden[idx], case.targets[idx]
        out = function.apply(hidden, case.weight, None, targets, 1.0, 8192, None, 1.0, ("entropy",))
        return case.clip_loss(out[0], idx)

    return loss


def _liger(head_class: Any) -> Loss:
    # torch.compile needs a compiler on a CPU and changes little there; on a GPU it is Liger's default
    head = head_class(
        beta=0.0,
        compiled=torch.cuda.is_available(),
        use_ref_model=False,
        loss_type="bnpo",
        epsilon_low=CLIP_LOW,
        epsilon_high=CLIP_HIGH,
    )

    def loss(case: HeadCase) -> Tensor:
        shape = case.loss_mask.shape
        out: tuple[Tensor, ...] = head(
            case.hidden.view(*shape, -1),
            case.weight.to(case.hidden.dtype),
            case.targets.view(shape),
            case.loss_mask.float(),
            case.advantages,
            old_per_token_logps=case.old_logprobs.view(shape),
        )
        return out[0]

    return loss


def _verl(linear_cross_entropy: Any) -> Loss:
    def loss(case: HeadCase) -> Tensor:
        logprobs, _ = linear_cross_entropy(case.hidden, case.weight.to(case.hidden.dtype), case.targets, 1.0)
        return case.clip_loss(logprobs.float())

    return loss


def _cut_cross_entropy(linear_cross_entropy: Any) -> Loss:
    def loss(case: HeadCase) -> Tensor:
        idx = case.token_idx()
        nll = linear_cross_entropy(
            case.hidden[idx], case.weight, case.targets[idx], reduction="none", impl="cce_exact"
        )
        return case.clip_loss(-nll.float(), idx)

    return loss


PEERS = (
    (
        Peer(
            *("trl log-softmax", "trl", "trl.trainer.utils", "selective_log_softmax_and_entropy"),
            ("entropy_requires_grad",),
        ),
        _trl,
    ),
    (Peer("trl chunked", "trl", "trl.kernels", "ChunkedLogProbFunction.forward", ()), _trl_chunked),
    (
        Peer(
            *("liger grpo", "liger-kernel", "liger_kernel.chunked_loss", "LigerFusedLinearGRPOLoss"),
            ("beta", "compiled", "use_ref_model", "loss_type", "epsilon_low", "epsilon_high"),
        ),
        _liger,
    ),
    (
        Peer("verl", "verl", "verl.utils.kernel.linear_cross_entropy", "linear_cross_entropy", (), True),
        _verl,
    ),
    (
        Peer(
            *("cut-cross-entropy", "cut-cross-entropy", "cut_cross_entropy", "linear_cross_entropy"),
            ("reduction", "impl"),
            True,
        ),
        _cut_cross_entropy,
    ),
)
