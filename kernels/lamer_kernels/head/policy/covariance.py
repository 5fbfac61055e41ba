"""Clip-Cov and KL-Cov: the few tokens that cost most entropy, by statistics of the whole call.

G. Cui et al., The Entropy Mechanism of Reinforcement Learning, arXiv 2505.22617, as verl 0.9 computes them.
The covariance of a token is (A - mean A) (logprob - mean logprob), means over the tokens of the call that
have a weight. Both losses are `clip`, with something done to the tokens that are chosen here.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from ..._core.numbers import check_number

COVARIANCE = ("clip_cov", "kl_cov")


@dataclass(frozen=True)
class Covariance:
    """Settings of ``clip_cov`` and ``kl_cov``; the docstring of ``linear_policy_loss`` explains them."""

    share: float = 2e-4  # of the call's tokens that are chosen
    low: float = 1.0  # clip_cov draws from tokens whose covariance is above this
    high: float = 5.0  # and below this
    coef: float = 1.0  # kl_cov: weight of |logprob - old_logprob| on the chosen tokens
    seed: int = 0  # clip_cov: of the draw

    def check(self) -> None:
        check_number("covariance.share", self.share, "(0, 1]")
        check_number("covariance.low", self.low, "[-inf, inf]")
        check_number("covariance.high", self.high, "[-inf, inf]")
        check_number("covariance.coef", self.coef, "[0, inf)")
        if not self.low < self.high:
            raise ValueError(f"covariance.low {self.low} is not below covariance.high {self.high}")


@dataclass(frozen=True)
class Chosen:
    """What loss `clip` is called with in the place of clip_cov or kl_cov, and where more acts."""

    tokens: Tensor  # bool, in the shape of the token data
    options: dict[str, Any]  # of the call with loss "clip"
    slope: Tensor | None  # of kl_cov: d extra / d logprob, 0 on the others, not yet weighed

    def extra(self, logprobs: Tensor, old_logprobs: Tensor, token_weights: Tensor | None) -> Tensor:
        """kl_cov: sum of weight x coef x |log ratio| over the chosen tokens, a scalar with a gradient."""
        assert self.slope is not None
        slope = self.slope if token_weights is None else self.slope * token_weights
        at = self.tokens
        return (slope[at] * (logprobs[at] - old_logprobs[at])).sum()


def choose(
    covariance: Covariance,
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    token_weights: Tensor | None,
    options: dict[str, Any],
) -> Chosen:
    """Args: ``logprobs`` without gradient; token data in one shape; ``options`` of the call, loss among them.

    Waits for a GPU: how many tokens are candidates is known to nobody else.
    """
    covariance.check()
    kind, device = options["loss"], logprobs.device
    if options["dual_clip"] is not None:
        raise ValueError(f"dual_clip goes with loss 'clip', got loss {kind!r}")
    advantages = advantages.to(device)
    weights = None if token_weights is None else token_weights.to(device)
    present = torch.ones_like(logprobs, dtype=torch.bool) if weights is None else weights != 0
    if options["importance_weights"] is not None:
        importance = options["importance_weights"].to(logprobs)
    else:
        importance = torch.ones_like(logprobs)
    log_ratio = torch.zeros_like(logprobs) if old_logprobs is None else logprobs - old_logprobs
    count = int(present.sum())
    number = max(1, int(count * covariance.share))
    values = _covariances(logprobs, advantages, present, count)
    if kind == "clip_cov":
        ratio = log_ratio.exp()
        bounded = ratio.clamp(1 - options["clip_low"], 1 + options["clip_high"])
        open_ = present & ~(-bounded * advantages > -ratio * advantages)
        candidates = (
            (open_ & (values > covariance.low) & (values < covariance.high)).flatten().nonzero()[:, 0]
        )
        generator = torch.Generator().manual_seed(covariance.seed)
        order = torch.randperm(len(candidates), generator=generator)[:number]
        tokens = _mask(logprobs, candidates[order.to(device)])
        importance = torch.where(tokens, 0.0, importance)
        return Chosen(tokens, options | {"loss": "clip", "importance_weights": importance}, None)
    top = torch.topk(values.flatten(), min(number, count)).indices
    tokens = _mask(logprobs, top)
    slope = torch.where(tokens, covariance.coef * log_ratio.sign() * importance, 0.0)
    return Chosen(tokens, options | {"loss": "clip", "clip_low": 1.0, "clip_high": inf}, slope)


def _covariances(logprobs: Tensor, advantages: Tensor, present: Tensor, count: int) -> Tensor:
    """In float64, -inf where no token is."""
    x, a = (torch.where(present, v.double(), 0.0) for v in (logprobs, advantages))
    product = (a - a.sum() / max(1, count)) * (x - x.sum() / max(1, count))
    return torch.where(present & product.isfinite(), product, -inf)


def _mask(like: Tensor, places: Tensor) -> Tensor:
    mask = torch.zeros(like.numel(), dtype=torch.bool, device=like.device)
    mask[places] = True
    return mask.view(like.shape)
