"""One update from one minibatch, and the scores that come before it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import Minibatch, PolicyBatch
from lamer_fast.learn.mismatch import Mismatch
from lamer_fast.learn.policy import Policy, Scorer
from lamer_fast.learn.ranks import ALONE, Ranks
from lamer_fast.learn.trainable import Algorithm
from lamer_fast.spans import span
from lamer_kernels.head.policy import PolicyLoss


@dataclass
class LearnStats:
    """What the updates of one iteration did; means over updates unless said."""

    updates: int = 0
    empty: int = 0  # minibatches without any coefficient: no update
    skipped: int = 0  # updates skipped because loss or gradient was not finite
    trained_tokens: int = 0
    lr: float = 0.0
    seen: list[list[tuple[PolicyBatch, PolicyLoss]]] = field(default_factory=list)
    """Of each update, what it was given and found for each micro-batch; the losses detached."""
    sums: dict[str, float] = field(default_factory=dict)
    of_iteration: dict[str, float] = field(default_factory=dict)
    """What is known once, not by update."""

    def add(self, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value

    def mean(self, key: str) -> float:
        return self.sums.get(key, 0.0) / max(1, self.updates)


Outcome = Literal["applied", "empty", "skipped"]  # empty: no coefficient; skipped: not finite


def score(policy: Policy, minibatches: list[Minibatch], algo: AlgoConfig) -> None:
    """Puts batches with `old_logprobs`, those under the policy as it is now, in place of those without.

    The first minibatch can do without: the policy of its own update is the same one, so that the forward pass
    there fills them in (with importance weights they are needed before).
    """
    for minibatch in minibatches if algo.importance_cap > 0 else minibatches[1:]:
        for i, batch in enumerate(policy.in_step(minibatch, backward=False)):
            old = policy.logprobs(batch.packed, batch.temperature)
            minibatch[i] = replace(batch, old_logprobs=old)


def score_reference(reference: Scorer, minibatches: list[Minibatch]) -> None:
    """Puts batches with `ref_logprobs`, those under the frozen first policy, in place of those without."""
    for minibatch in minibatches:
        for i, batch in enumerate(reference.in_step(minibatch, backward=False)):
            ref = reference.logprobs(batch.packed, batch.temperature)
            minibatch[i] = replace(batch, ref_logprobs=ref)


def update(
    algorithm: Algorithm,
    minibatch: Minibatch,
    stats: LearnStats,
    ranks: Ranks = ALONE,
    lessons: Sequence[PolicyBatch] = (),
) -> Outcome:
    """Exactly one update: gradients of all micro-batches, one step of each optimizer. Adds to `stats`.

    Every rank calls it with its part of the minibatch, which may be empty, and gets the same outcome.
    `lessons` are micro-batches whose loss is that of imitation; statistics of the policy loss leave them out.

    Makes no update without loss tokens or with coefficients that are all zero. A loss or gradient that is not
    finite changes nothing. Batches without `old_logprobs` are replaced by ones that have those of this pass.
    """
    if not ranks.any(lessons or has_coefficients(minibatch, algorithm.config)):
        stats.empty += 1
        return "empty"
    outputs: list[Mapping[str, Any]] = []
    taught: list[PolicyLoss] = []
    for i, batch in enumerate(algorithm.policy.in_step([*minibatch, *lessons], backward=True)):
        if i >= len(minibatch):
            lesson: Any = algorithm.lesson(batch)
            lesson.loss.backward()
            taught.append(lesson)
            continue
        with span("micro-batch"):
            losses = gradients(algorithm, batch)
        if batch.old_logprobs is None:
            minibatch[i] = replace(batch, old_logprobs=losses["policy"].logprobs)
        outputs.append(losses)
    of_policy: list[PolicyLoss] = [losses["policy"] for losses in outputs]
    found = [output._replace(loss=output.loss.detach()) for output in of_policy]
    stats.seen.append(list(zip(minibatch, found, strict=True)))
    optimizers = {name: trained.optimizer for name, trained in algorithm.trainables.items()}
    device = algorithm.policy.device
    sums = {_key(name, "loss"): _total((losses[name] for losses in outputs), device) for name in optimizers}
    if algorithm.config.consolidation:
        sums["consolidation_loss"] = _total(taught, device) / algorithm.config.consolidation
    totals = dict(ranks.total(sums | _token_sums(of_policy, device)))
    for optimizer in optimizers.values():
        optimizer.masters.reduce(ranks)
    kept = totals.pop("kept")
    means = {key: totals.pop(key) / kept.clamp(min=1) for key in PER_TOKEN}
    norms = {_key(name, "grad_norm"): trained.masters.norm() for name, trained in optimizers.items()}
    values = _read(totals | norms | means)
    decisive = [values[_key(name, value)] for name in optimizers for value in ("loss", "grad_norm")]
    if not all(map(math.isfinite, decisive)):
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        stats.skipped += 1
        return "skipped"
    stats.lr = optimizers["policy"].lr()
    with span("optimizer"):
        for name, optimizer in optimizers.items():
            optimizer.step(values[_key(name, "grad_norm")])
    stats.updates += 1
    stats.trained_tokens += sum(len(b.packed.targets) for b in (*minibatch, *lessons))
    stats.add(values)
    return "applied"


def gradients(algorithm: Algorithm, batch: PolicyBatch) -> dict[str, Any]:
    """Adds those of each trainable's loss, one after another: activations of one are there at a time."""
    losses: dict[str, Any] = {}
    for name, compute in algorithm.losses(batch).items():
        with span("forward"):
            losses[name] = compute()
        with span("backward"):
            losses[name].loss.backward()
    return losses


def _read(values: dict[str, Tensor]) -> dict[str, float]:
    """The only time in an update that the host waits for the device."""
    numbers = torch.stack([value.double() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def _key(name: str, value: str) -> str:
    return value if name == "policy" else f"{name}_{value}"


def _total(outputs: Iterable[Any], device: torch.device) -> Tensor:
    losses = [output.loss.detach() for output in outputs]
    return torch.stack(losses).sum() if losses else torch.zeros((), device=device)


def has_coefficients(minibatch: Minibatch, algo: AlgoConfig) -> bool:
    if not any(len(b.packed.targets) for b in minibatch):
        return False
    return not algo.only_advantages or any(bool((b.advantages != 0).any()) for b in minibatch)


PER_TOKEN = ("entropy", "clipped", "kl")


def _token_sums(outputs: list[PolicyLoss], device: torch.device) -> dict[str, Tensor]:
    """Over the tokens that were computed: their number, `kept`, and the sum of each per-token statistic."""
    if not outputs:
        return {key: torch.zeros((), device=device) for key in ("kept", *PER_TOKEN)}
    kept = torch.cat([o.kept for o in outputs])
    columns = {key: torch.cat([getattr(o, key) for o in outputs]) for key in PER_TOKEN}
    return {"kept": kept.sum()} | {key: torch.where(kept, x.float(), 0.0).sum() for key, x in columns.items()}


def mismatch(
    minibatches: list[Minibatch], stats: LearnStats, algo: AlgoConfig, ranks: Ranks = ALONE
) -> Mismatch:
    """Between sampler and trainer before the first update.

    Over all tokens where they were recomputed, else over those of the first update.
    """
    if algo.old_logprobs == "sampler":
        pairs = stats.seen[0] if stats.seen else []
        return Mismatch.of(((o.logprobs[o.kept], b.rollout_logprobs[o.kept]) for b, o in pairs), ranks)
    return Mismatch.of(
        ((b.old_logprobs, b.rollout_logprobs) for m in minibatches for b in m if b.old_logprobs is not None),
        ranks,
    )
