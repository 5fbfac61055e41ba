"""The gradient of each turn's log-probability under a language model, on a sketch.

All parameters take part. A parameter is added to one of D sums with a sign, both drawn at random (a count
sketch), so that products of two sketches are those of the gradients on average; what is a multiple of
another gradient stays it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lamer_fast.learn.batch import Packed
from lamer_fast.learn.policy import Policy
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_kernels import linear_logprob

SIZE = 8192  # D


class Sketch:
    """Of the parameters of `policy`; the draw is a function of their number alone."""

    def __init__(self, policy: Policy, size: int = SIZE) -> None:
        self.policy, self.size = policy, size
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.count = sum(p.numel() for p in self.parameters)
        rng = np.random.default_rng(self.count)
        self.place = torch.from_numpy(rng.integers(size, size=self.count))
        self.sign = torch.from_numpy(rng.integers(2, size=self.count).astype(np.float32) * 2 - 1)

    def scores(self, trials: TrialBatch, temperature: float) -> NDArray[np.float32]:
        """[R, D] of every turn: the gradient of the sum of its tokens' log-probabilities, in nats."""
        found = np.zeros((trials.num_turns, self.size), np.float32)
        for sequence in range(trials.num_sequences):
            turns = np.flatnonzero(trials.sequence == sequence)
            logprobs = self._logprobs(trials, turns, sequence, temperature)
            ends = np.cumsum(trials.token_end[turns] - trials.token_start[turns]).tolist()
            for turn, start, end in zip(turns.tolist(), [0, *ends[:-1]], ends, strict=True):
                total = logprobs[start:end].sum()
                gradients = torch.autograd.grad(
                    total, self.parameters, retain_graph=end < ends[-1], materialize_grads=True
                )
                found[turn] = self.sketched(gradients).numpy()
        return found

    def sketched(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """[D] of what has the shapes of the parameters."""
        flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
        return torch.zeros(self.size).index_add_(0, self.place, self.sign * flat)

    def _logprobs(
        self, trials: TrialBatch, turns: NDArray[np.int64], sequence: int, temperature: float
    ) -> torch.Tensor:
        """[L] of the tokens of `turns`, one after another, with their graph."""
        start, end = trials.cu_seqlens[sequence : sequence + 2].tolist()
        sampled = np.concatenate(
            [np.arange(trials.token_start[t], trials.token_end[t]) for t in turns]
        )  # in the token store
        ids = torch.from_numpy(trials.tokens[start:end].astype(np.int64))
        predicts = torch.from_numpy(sampled - start - 1)
        targets = torch.from_numpy(trials.tokens[sampled].astype(np.int64))
        offsets = torch.tensor([0, end - start], dtype=torch.int32)
        packed = Packed(ids, torch.arange(end - start), offsets, end - start, predicts, targets)
        hidden = self.policy.hidden(packed)
        return linear_logprob(hidden, self.policy.head_weight, targets, temperature=temperature).logprobs
