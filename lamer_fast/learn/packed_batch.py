"""PackedBatch: one micro-batch on the device, sequences end to end without padding.

Axis letters: S sequences, T packed tokens, L loss tokens, U segments (turns).
"""

from dataclasses import dataclass

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
    old_logprobs: (
        Tensor | None
    )  # [L] float32, nats; None until recomputed: the next forward pass defines them
    rollout_logprobs: Tensor  # [L] float32, nats, from the sampler
    advantages: Tensor  # [L] float32, the turn's advantage on each of its tokens
    token_weights: (
        Tensor  # [L] float32, the aggregation over the whole minibatch: loss = sum(token_weights * loss)
    )
    temperature: float
    cu_segments: Tensor  # [U+1] int64 into L
    ref_logprobs: Tensor | None = None  # [L] float32, only when kl_coef > 0


Minibatch = list[PackedBatch]  # what one update sees
