"""One update of the policy from one minibatch, and the scores that come before it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lamer_fast.config import AlgoConfig
from lamer_fast.learn.packed_batch import Minibatch
from lamer_fast.learn.policy import Policy
from lamer_fast.learn.state import TrainState


@dataclass
class Mismatch:
    """Gap between the trainer's and the sampler's log-probability of the sampled tokens, d = trainer - sampler."""

    mean: float = 0.0  # of |d|, nats
    max: float = 0.0  # of |d|, nats
    k3: float = 0.0  # mean of exp(d) - 1 - d, an estimate of KL(sampler || trainer), nats
    ess: float = 1.0  # effective sample size of the weights exp(d), as a share of the tokens

    @classmethod
    def of(cls, pairs: Iterable[tuple[Tensor, Tensor]]) -> "Mismatch":
        """From (trainer, sampler) log-probabilities, [L] each."""
        gaps = [trainer.double() - sampler.double() for trainer, sampler in pairs]
        if not gaps or sum(g.numel() for g in gaps) == 0:
            return cls()
        d = torch.cat(gaps)
        w = d.exp()
        ess = w.sum() ** 2 / (d.numel() * (w * w).sum())
        values = torch.stack([d.abs().mean(), d.abs().max(), (w - 1 - d).mean(), ess]).tolist()
        return cls(*values)


@dataclass
class LearnStats:
    """What the updates of one iteration did; means over updates unless said."""

    updates: int = 0
    empty: int = 0  # minibatches without any coefficient: no update
    skipped: int = 0  # updates skipped because loss or gradient was not finite
    trained_tokens: int = 0
    lr: float = 0.0
    mismatch: Mismatch = field(default_factory=Mismatch)
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value

    def mean(self, key: str) -> float:
        return self.sums.get(key, 0.0) / max(1, self.updates)


def score(policy: Policy, minibatches: list[Minibatch]) -> None:
    """Fills `old_logprobs` with the log-probabilities under the policy as it is now."""
    for minibatch in minibatches:
        for batch in minibatch:
            batch.old_logprobs = policy.logprobs(batch)


def score_reference(reference: Policy, minibatches: list[Minibatch]) -> None:
    """Fills `ref_logprobs` with those under the frozen first policy."""
    for minibatch in minibatches:
        for batch in minibatch:
            batch.ref_logprobs = reference.logprobs(batch)


def update_policy(state: TrainState, minibatch: Minibatch, algo: AlgoConfig, stats: LearnStats) -> None:
    """Exactly one update: gradients of all micro-batches, one AdamW step. Adds what happened to `stats`.

    Makes no update without loss tokens or with coefficients that are all zero. A loss or gradient that is not
    finite changes nothing, is counted and its batch written to state.dump_dir.
    """
    if not has_coefficients(minibatch, algo):
        stats.empty += 1
        return
    losses, tokens = [], []
    first_update = stats.updates + stats.skipped == 0
    for batch in minibatch:
        loss, token_stats = state.policy(batch, algo)
        loss.backward()
        losses.append(loss.detach())
        tokens.append(token_stats)
    if first_update and algo.old_logprobs == "sampler":  # else `score` has measured it
        pairs = [(t["logprobs"], b.rollout_logprobs) for t, b in zip(tokens, minibatch, strict=True)]
        stats.mismatch = Mismatch.of(pairs)
    lr = state.optimizer.lr()
    loss_value = float(torch.stack(losses).sum())
    grad_norm, applied = state.optimizer.step() if math.isfinite(loss_value) else (math.nan, False)
    if not applied:
        state.optimizer.zero_grad()
        state.note_skipped(minibatch)
        stats.skipped += 1
        return
    state.skipped_in_row = 0
    stats.updates += 1
    stats.trained_tokens += sum(len(b.targets) for b in minibatch)
    stats.lr = lr
    stats.add({"loss": loss_value, "grad_norm": grad_norm} | _token_means(tokens))


def has_coefficients(minibatch: Minibatch, algo: AlgoConfig) -> bool:
    if not any(len(b.targets) for b in minibatch):
        return False
    if algo.entropy_coef != 0 or algo.kl_coef != 0:
        return True
    return any(bool((b.advantages != 0).any()) for b in minibatch)


def _token_means(tokens: list[dict[str, Tensor]]) -> dict[str, float]:
    """Mean over the loss tokens of the minibatch of each per-token statistic."""
    keys = [key for key in ("entropy", "clipped", "kl") if tokens[0].get(key) is not None]
    means = torch.stack([torch.cat([t[key].float() for t in tokens]).mean() for key in keys])
    return dict(zip(keys, means.tolist(), strict=True))
