"""Expert trials -> packed sequences and, for every trained token, the distribution it should have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.learn.batch import Packed
from lamer_fast.learn.policy import Policy
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels import pack as pack_bins

Chances = Sequence[Sequence[NDArray[np.float64] | None]]


@dataclass(frozen=True)
class ExpertBatch:
    packed: Packed
    targets: Tensor  # [L, V] float32, a distribution per loss token

    def loss(self, policy: Policy) -> Tensor:
        """Cross-entropy summed over the loss tokens, nats."""
        device = policy.head_weight.device
        hidden = policy.hidden(self.packed.to(device))
        logprobs = torch.log_softmax((hidden @ policy.head_weight.T).float(), dim=-1)
        return -(self.targets.to(device) * logprobs).sum()


def pack_experts(
    trials: TrialBatch, chances: Chances, action_ids: Sequence[int] | None, vocab_size: int, max_tokens: int
) -> list[ExpertBatch]:
    """Whole sequences in micro-batches of at most `max_tokens`.

    Args:
        chances: per trial and turn, what the expert drew its action from, [num_actions], or None.
        action_ids: the token that is the whole reply of each action; None if replies are several tokens. With
            it a PLAY turn teaches the distribution, without only the action that was drawn.
    """
    plan: Any = pack_bins  # typed for tensors, takes numpy arrays as well
    bins = plan(np.diff(trials.cu_seqlens), max_tokens)
    flat = [c for turns in chances for c in turns] if action_ids is not None else [None] * trials.num_turns
    soft = {int(trials.token_start[row]): c for row, c in enumerate(flat) if c is not None}
    batches = []
    for b in range(int(bins.max()) + 1):
        pieces = [np.arange(*trials.cu_seqlens[s : s + 2]) for s in np.flatnonzero(bins == b)]
        place = np.concatenate(pieces)  # in the token store, of each packed token
        token_idx = np.flatnonzero(trials.loss_mask[place])
        targets = np.zeros((len(token_idx), vocab_size), np.float32)
        for row, idx in enumerate(token_idx.tolist()):
            at = int(place[idx])
            if at in soft:
                targets[row, action_ids] = soft[at]
            else:
                targets[row, trials.tokens[at]] = 1.0
        batches.append(ExpertBatch(_packed(trials, place, pieces, token_idx), torch.from_numpy(targets)))
    return batches


def _packed(
    trials: TrialBatch,
    place: NDArray[np.int64],
    pieces: Sequence[NDArray[np.int64]],
    token_idx: NDArray[np.int64],
) -> Packed:
    lengths = [len(piece) for piece in pieces]
    tokens = torch.from_numpy(trials.tokens[place].astype(np.int64))
    return Packed(
        input_ids=tokens,
        position_ids=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
        cu_seqlens=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        max_seqlen=max(lengths),
        token_idx=torch.from_numpy(token_idx - 1),
        targets=tokens[torch.from_numpy(token_idx)],
    )
