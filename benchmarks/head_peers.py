"""The loss heads of TRL, Liger and verl, each at its best settings, behind one call.

Each function takes a `HeadCase` and returns the scalar loss; autograd does the rest. Peers come from
PEERS_PATH or from .venv-peers; an absent one is skipped by name. None of them takes token advantages through
its fused loss, so the cases have one advantage per sequence.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

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


def find_peers() -> dict[str, Callable[[HeadCase], Tensor]]:
    """name -> loss function of every peer that can be imported here; prints the names of the others."""
    root = Path(__file__).resolve().parent.parent
    folders = [os.environ["PEERS_PATH"]] if "PEERS_PATH" in os.environ else []
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folders.append(str(root / ".venv-peers" / "lib" / version / "site-packages"))
    sys.path += [f for f in folders if Path(f).is_dir() and f not in sys.path]
    peers = {}
    for name, load in {
        "trl log-softmax": _trl,
        "trl chunked": _trl_chunked,
        "liger grpo": _liger,
        "verl": _verl,
    }.items():
        try:
            peers[name] = load()
        except Exception as error:
            print(f"{name}: skipped, {type(error).__name__}: {error}".splitlines()[0][:110])
    return peers


def _trl() -> Callable[[HeadCase], Tensor]:
    from trl.trainer.utils import selective_log_softmax_and_entropy

    def loss(case: HeadCase) -> Tensor:
        logits = (case.hidden @ case.weight.to(case.hidden.dtype).T).view(*case.loss_mask.shape, -1)
        targets = case.targets.view(case.loss_mask.shape)
        logprobs, _ = selective_log_softmax_and_entropy(logits, targets, entropy_requires_grad=False)
        return case.clip_loss(logprobs.float())

    return loss


def _trl_chunked() -> Callable[[HeadCase], Tensor]:
    from trl.kernels import ChunkedLogProbFunction

    def loss(case: HeadCase) -> Tensor:  # compacts to the loss tokens, as its patched lm_head does
        idx = case.token_idx()
        hidden, targets = case.hidden[idx], case.targets[idx]
        out = ChunkedLogProbFunction.apply(
            hidden, case.weight, None, targets, 1.0, 8192, None, 1.0, ("entropy",)
        )
        return case.clip_loss(out[0], idx)

    return loss


def _liger() -> Callable[[HeadCase], Tensor]:
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    # torch.compile needs a compiler on a CPU and changes little there; on a GPU it is Liger's default
    compiled = torch.cuda.is_available()
    head = LigerFusedLinearGRPOLoss(
        beta=0.0,
        compiled=compiled,
        use_ref_model=False,
        loss_type="bnpo",
        epsilon_low=CLIP_LOW,
        epsilon_high=CLIP_HIGH,
    )

    def loss(case: HeadCase) -> Tensor:
        shape = case.loss_mask.shape
        out = head(
            case.hidden.view(*shape, -1),
            case.weight.to(case.hidden.dtype),
            case.targets.view(shape),
            case.loss_mask.float(),
            case.advantages,
            old_per_token_logps=case.old_logprobs.view(shape),
        )
        return out[0]

    return loss


def _verl() -> Callable[[HeadCase], Tensor]:
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    def loss(case: HeadCase) -> Tensor:
        logprobs, _ = linear_cross_entropy(case.hidden, case.weight.to(case.hidden.dtype), case.targets, 1.0)
        return case.clip_loss(logprobs.float())

    return loss
