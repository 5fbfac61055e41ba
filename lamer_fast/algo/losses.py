"""The policy's losses: the surrogates of `lamer_kernels`, or `module:function` of the user's own."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lamer_fast.algo.own import called, function
from lamer_fast.algo.rehearsal import small_batch
from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.learn.policy import Objective
from lamer_kernels import linear_logprob, linear_policy_loss, policy_loss
from lamer_kernels.head.policy import Covariance, PolicyLoss
from lamer_kernels.head.policy.covariance import COVARIANCE
from lamer_kernels.head.policy.terms import CLIPPED, OF_SEGMENTS

PARAMETERS = ("logprobs", "batch", "algo")


def objective(algo: AlgoConfig) -> Objective:
    """Raises ValueError if `algo.loss` names a function that cannot be used."""
    if ":" in algo.loss:
        return OwnLoss(algo, function(algo.loss, "algo.loss", PARAMETERS))
    return Surrogate(algo)


class Surrogate:
    """Those that `lamer_kernels.linear_policy_loss` names, with KL and entropy terms."""

    def __init__(self, algo: AlgoConfig) -> None:
        self.algo = algo

    def __call__(
        self, hidden: Tensor, weight: Tensor, batch: PolicyBatch, head_gradient: Tensor | None
    ) -> PolicyLoss:
        algo, importance_weights = self.algo, None
        if algo.importance_cap > 0 and batch.old_logprobs is not None:
            gap = batch.old_logprobs - batch.rollout_logprobs
            importance_weights = gap.exp().clamp(max=algo.importance_cap)
        return linear_policy_loss(
            hidden,
            weight,
            batch.packed.targets,
            batch.old_logprobs,
            batch.advantages,
            token_weights=batch.token_weights,
            cu_segments=batch.cu_segments if algo.loss in OF_SEGMENTS else None,
            temperature=batch.temperature,
            loss=algo.loss,
            clip_low=algo.clip_low,
            clip_high=algo.clip_high,
            dual_clip=algo.dual_clip or None if algo.loss in CLIPPED else None,
            ref_logprobs=batch.ref_logprobs,
            kl=algo.kl,
            kl_coef=algo.kl_coef,
            entropy_coef=algo.entropy_coef,
            importance_weights=importance_weights,
            covariance=covariance(algo, batch) if algo.loss in COVARIANCE else None,
            dweight_out=head_gradient,
        )


def covariance(algo: AlgoConfig, batch: PolicyBatch) -> Covariance:
    """The draw of clip_cov is a function of the tokens, so that a run that goes on draws the same."""
    seed = int(batch.packed.input_ids.sum()) if algo.loss == "clip_cov" else 0
    return Covariance(algo.cov_share, algo.cov_low, algo.cov_high, algo.cov_coef, seed)


class OwnLoss:
    """A function of log-probabilities; KL and entropy terms are added as configured.

        def loss(logprobs: Tensor, batch: PolicyBatch, algo: AlgoConfig) -> Tensor

    logprobs [L] float32, nats, carry the gradient; `batch.old_logprobs` are always there. It returns the loss
    of each token, [L] float32, not yet weighted: the trainer sums them with `batch.token_weights`.
    """

    def __init__(self, algo: AlgoConfig, own: Callable[..., Tensor]) -> None:
        self.algo, self.own = algo, own
        self._rehearse()

    def __call__(
        self, hidden: Tensor, weight: Tensor, batch: PolicyBatch, head_gradient: Tensor | None
    ) -> PolicyLoss:
        """The head's gradient comes by autograd alone."""
        targets, temperature = batch.packed.targets, batch.temperature
        head = linear_logprob(hidden, weight, targets, temperature=temperature, entropy=True)
        weights = batch.token_weights.to(hidden.device)
        terms = policy_loss(
            head.logprobs,
            batch.old_logprobs,
            torch.zeros_like(head.logprobs),
            token_weights=weights,
            ref_logprobs=batch.ref_logprobs,
            kl=self.algo.kl,
            kl_coef=self.algo.kl_coef,
            entropy=head.entropy,
            entropy_coef=self.algo.entropy_coef,
        )
        logprobs = head.logprobs.detach()
        old = logprobs if batch.old_logprobs is None else batch.old_logprobs
        total = (
            terms.loss + (weights * self._per_token(head.logprobs, replace(batch, old_logprobs=old))).sum()
        )
        assert head.entropy is not None
        return PolicyLoss(
            total,
            logprobs,
            (logprobs - old).exp(),
            torch.zeros_like(targets, dtype=torch.bool),
            terms.kl,
            head.entropy.detach(),
            torch.ones_like(targets, dtype=torch.bool),
        )

    def _per_token(self, logprobs: Tensor, batch: PolicyBatch) -> Tensor:
        given = batch.tensors() | {"logprobs": logprobs}
        before = {name: tensor._version for name, tensor in given.items()}
        out = called(self.algo.loss, "algo.loss", self.own, logprobs, batch, self.algo)
        changed = [name for name, tensor in given.items() if tensor._version != before[name]]
        if changed:  # the next epoch, or the other terms, would see it
            raise ValueError(f"algo.loss = {self.algo.loss!r} changes {', '.join(changed)} in place")
        if not isinstance(out, Tensor) or out.shape != logprobs.shape or out.dtype != logprobs.dtype:
            found = f"{tuple(out.shape)} {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
            wanted = f"{tuple(logprobs.shape)} {logprobs.dtype}"
            raise ValueError(f"algo.loss = {self.algo.loss!r} returned {found}, expected {wanted}")
        return out

    def _rehearse(self) -> None:
        """On eight tokens of two turns: ValueError unless it returns finite losses that have a gradient."""
        batch = small_batch()
        logprobs = batch.rollout_logprobs.clone().requires_grad_()
        out = self._per_token(logprobs, batch)
        wrong = int((~out.isfinite()).sum())
        if wrong:
            raise ValueError(f"algo.loss = {self.algo.loss!r}: {wrong} of {len(out)} values are not finite")
        if not out.requires_grad:
            raise ValueError(f"algo.loss = {self.algo.loss!r}: its result does not depend on logprobs")
