"""PackedBatch: one micro-batch, sequences end to end without padding.

Axis letters: S sequences, T packed tokens, L loss tokens, U segments (turns).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class PackedBatch:
    """`hidden[token_idx[l]]` predicts `targets[l]`: no other position ever reaches the lm_head."""

    input_ids: Tensor  # [T] int64
    position_ids: Tensor  # [T] int64, from 0 in each sequence
    cu_seqlens: Tensor  # [S+1] int32
    max_seqlen: int
    token_idx: Tensor  # [L] int64
    targets: Tensor  # [L] int64
    old_logprobs: Tensor | None  # [L] float32, nats; None: they are those of the next forward pass
    rollout_logprobs: Tensor  # [L] float32, nats, from the sampler
    advantages: Tensor  # [L] float32, the turn's advantage on each of its tokens; on the host
    token_weights: Tensor  # [L] float32, on the host: the minibatch's loss is sum(token_weights * loss)
    temperature: float
    cu_segments: Tensor  # [U+1] int64 into L
    ref_logprobs: Tensor | None = None  # [L] float32, only when kl_coef > 0

    def to(self, device: torch.device | str) -> "PackedBatch":
        """On the device, but for what stays on the host: there the loss head sees which tokens it can leave
        out, without a synchronisation, so that it computes the same ones on every device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name not in ("advantages", "token_weights")
        }
        return replace(self, **moved)


Minibatch = list[PackedBatch]  # what one update sees
