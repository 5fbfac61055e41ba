"""The losses in closed form: value and derivative per token. ``reference.py`` says what they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import inf, isinf
from typing import Any, NamedTuple

import torch
from torch import Tensor

LOSSES = ("clip", "gspo", "cispo", "reinforce", "gspo_token", "gmpo", "sapo", "dppo", "dppo_kl")
CLIPPED = ("clip", "gspo", "gspo_token")
OF_SEGMENTS = ("gspo", "gspo_token", "gmpo")  # their ratio is a mean over the tokens of a segment
MASKED = ("dppo", "dppo_kl")  # a token that moved too far is left out
KLS = ("k1", "k2", "k3")


@dataclass(frozen=True)
class LossConfig:
    """The scalar switches; their meaning stands in the docstring of linear_policy_loss."""

    loss: str
    clip_low: float
    clip_high: float
    dual_clip: float | None
    log_ratio_clip: float | None
    kl: str
    kl_coef: float
    kl_clip: tuple[float, float] | None
    entropy_coef: float
    tau_pos: float = 1.0
    tau_neg: float = 1.05

    def options(self) -> dict[str, Any]:
        """As keywords of a call, but for entropy_coef."""
        return {name: value for name, value in vars(self).items() if name != "entropy_coef"}

    def flat(self) -> list[float]:
        """As a custom op takes it: a word is its place in LOSSES or KLS, an infinite bound is none."""
        bounds = (self.dual_clip, self.log_ratio_clip, *(self.kl_clip or (None, None)))
        words = [float(LOSSES.index(self.loss)), float(KLS.index(self.kl))]
        numbers = [self.clip_low, self.clip_high, self.kl_coef, self.entropy_coef, self.tau_pos, self.tau_neg]
        return words + numbers + [inf if x is None else x for x in bounds]

    @staticmethod
    def of_flat(numbers: Sequence[float]) -> "LossConfig":
        loss, kl, clip_low, clip_high, kl_coef, entropy_coef, tau_pos, tau_neg, *bounds = numbers
        dual_clip, log_ratio_clip, gap, estimate = bounds
        return LossConfig(
            LOSSES[int(loss)],
            clip_low,
            clip_high,
            None if isinf(dual_clip) else dual_clip,
            None if isinf(log_ratio_clip) else log_ratio_clip,
            KLS[int(kl)],
            kl_coef,
            None if isinf(gap) and isinf(estimate) else (gap, estimate),
            entropy_coef,
            tau_pos,
            tau_neg,
        )


@dataclass(frozen=True)
class TokenData:
    """The constants of each loss token, [L] in the accumulation dtype; None where the caller gave none."""

    old_logprobs: Tensor | None
    advantages: Tensor
    token_weights: Tensor | None
    ref_logprobs: Tensor | None
    importance_weights: Tensor | None
    cu_segments: Tensor | None = None
    present: Tensor | None = None
    """bool: False where the label says that there is no token; only where the host may not look at it."""

    def __getitem__(self, rows: slice | Tensor) -> "TokenData":
        """A chunk of tokens, without segments."""
        present = None if self.present is None else self.present[rows]
        return replace(self._map(lambda x: x[rows]), cu_segments=None, present=present)

    def to(self, like: Tensor) -> "TokenData":
        """All values with the device and dtype of ``like``."""
        return self._map(lambda x: x.to(like, non_blocking=True))

    def present_first(self, present: Tensor) -> tuple["TokenData", Tensor]:
        """The tokens in another order, and that order [L]: those that are not present come last, in a segment
        of their own, so that no segment's mean counts them. Nothing waits for a GPU.
        """
        order = torch.argsort((~present).to(torch.uint8), stable=True)
        tokens = self.select(present, order)
        if tokens.cu_segments is None:
            return tokens, order
        end = tokens.cu_segments.new_full((1,), present.shape[0])
        return replace(tokens, cu_segments=torch.cat([tokens.cu_segments, end])), order

    def weighed(self) -> "TokenData":
        """Weight 0 to what is not present."""
        if self.present is None:
            return self
        weights = torch.ones_like(self.advantages) if self.token_weights is None else self.token_weights
        return replace(self, token_weights=torch.where(self.present, weights, 0))

    def kept(self, config: LossConfig, *, look: bool = False) -> Tensor | None:
        """[L] bool on the CPU, False where the host knows that a token has no coefficient; None: keep all.

        look: also read tensors on other devices, which synchronises.
        """
        factors = [self.token_weights]
        if not (config.kl_coef or config.entropy_coef):
            factors += [self.advantages, self.importance_weights]
        known = [(x != 0).cpu() for x in factors if x is not None and (look or x.device.type == "cpu")]
        if not known:
            return None
        kept = torch.stack(known).all(0)
        if self.cu_segments is not None:  # a segment's ratio needs all its tokens
            lengths = self.cu_segments.cpu().long().diff()
            live = torch.segment_reduce(kept.double(), "sum", lengths=lengths, unsafe=True, initial=0) > 0
            kept = live.repeat_interleave(lengths)
        return None if bool(kept.all()) else kept

    def select(self, kept: Tensor, idx: Tensor) -> "TokenData":
        """The tokens at ``idx``, the places where ``kept`` [L] is True; whole segments go, or stay."""
        cu_segments = self.cu_segments
        if cu_segments is not None:
            before = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.cumsum(0)]).to(cu_segments.device)
            cu_segments = before[cu_segments.long()]
        return replace(self[idx], cu_segments=cu_segments)

    def named(self) -> dict[str, Any]:
        """As the reference takes it, where all tokens are present."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "present"}

    def flat(self) -> list[Tensor | None]:
        """As a custom op takes it: ``TokenData(*flat)``."""
        return [*self.named().values(), self.present]

    def scaled(self, config: LossConfig) -> tuple["TokenData", Tensor]:
        """The weights times a power of two [], which brings the largest coefficient (at ratio 1) into [1, 2).

        float16 holds nothing below 6e-8: the gradients of a mean over many tokens would vanish.
        """
        size = self.advantages.abs()
        if self.importance_weights is not None:
            size = size * self.importance_weights.abs()
        size = size + config.kl_coef + config.entropy_coef
        weights = torch.ones_like(size) if self.token_weights is None else self.token_weights
        size = size * weights.abs()
        largest = torch.cat([size.new_zeros(1), size.where(size.isfinite(), 0.0)]).amax()
        scale = torch.exp2(1.0 - torch.frexp(largest).exponent.clamp(-100, 100))
        return replace(self, token_weights=weights * scale), scale

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TokenData":
        names = ("old_logprobs", "advantages", "token_weights", "ref_logprobs", "importance_weights")
        values = {name: getattr(self, name) for name in names}
        return replace(self, **{name: function(x) for name, x in values.items() if x is not None})


class Terms(NamedTuple):
    """Per token [L]; ``loss`` and the gradients carry the token weight, exactly 0 where that is 0."""

    loss: Tensor
    grad_logprobs: Tensor
    grad_entropy: Tensor | None
    ratio: Tensor
    clipped: Tensor
    kl: Tensor

    def at(self, rows: slice) -> "Terms":
        return Terms(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]


def policy_terms(config: LossConfig, logprobs: Tensor, entropy: Tensor | None, tokens: TokenData) -> Terms:
    advantages = tokens.advantages
    if tokens.old_logprobs is None:
        log_ratio = torch.where(logprobs.isnan(), logprobs, 0.0)
    else:
        log_ratio = logprobs - tokens.old_logprobs
    lengths, beyond = None, None
    if config.loss in OF_SEGMENTS:
        assert tokens.cu_segments is not None
        lengths = tokens.cu_segments.long().diff()
        if config.loss == "gmpo":
            log_ratio, beyond = _bounded_log_ratio(config, log_ratio, advantages)
        log_ratio = _spread(_segment_sum(log_ratio, lengths) / lengths.clamp(min=1), lengths, log_ratio)
    held = None
    if config.log_ratio_clip is not None:
        held = log_ratio.abs() > config.log_ratio_clip
        log_ratio = log_ratio.clamp(-config.log_ratio_clip, config.log_ratio_clip)
    ratio = log_ratio.exp()
    surrogate, slope, clipped = _surrogate(config, logprobs, ratio, tokens)
    if held is not None and config.loss != "cispo":  # there the ratio has no gradient anyway
        slope = torch.where(held, 0.0, slope)
    pulls = advantages != 0
    if tokens.importance_weights is not None:
        pulls = pulls & (tokens.importance_weights != 0)
        surrogate, slope = surrogate * tokens.importance_weights, slope * tokens.importance_weights
    # a factor of 0 means no pull, also where the ratio overflows
    surrogate, slope = (torch.where(pulls, x, 0.0) for x in (surrogate, slope))
    shares = config.loss in ("gspo", "gmpo")  # every token of a segment moves its ratio by 1 / length
    if shares:
        assert lengths is not None
        slope = _weigh(slope, tokens.token_weights)
        slope = _spread(_segment_sum(slope, lengths) / lengths.clamp(min=1), lengths, slope)
    if beyond is not None:
        slope, clipped = torch.where(beyond, 0.0, slope), beyond

    kl, kl_slope = _kl(config, logprobs, tokens.ref_logprobs)
    loss = surrogate
    if config.kl_coef:
        loss = loss + config.kl_coef * kl
    if config.entropy_coef and entropy is not None:
        loss = loss - config.entropy_coef * entropy
    if not shares:
        slope = _weigh(slope + config.kl_coef * kl_slope if config.kl_coef else slope, tokens.token_weights)
    elif config.kl_coef:
        slope = slope + _weigh(config.kl_coef * kl_slope, tokens.token_weights)
    grad_entropy = None
    if config.entropy_coef:
        grad_entropy = _weigh(torch.full_like(logprobs, -config.entropy_coef), tokens.token_weights)
    return Terms(_weigh(loss, tokens.token_weights), slope, grad_entropy, ratio, clipped, kl)


def _bounded_log_ratio(config: LossConfig, log_ratio: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
    """The log ratio held in [-clip_low, clip_high] on the side to which the advantage pulls, and where."""
    above = (advantages > 0) & (log_ratio > config.clip_high)
    below = (advantages < 0) & (log_ratio < -config.clip_low)
    held = torch.where(above, config.clip_high, torch.where(below, -config.clip_low, log_ratio))
    # no advantage, no pull: such a token counts as ratio 1
    return torch.where(advantages == 0, 0.0, held), above | below | (advantages == 0)


def _moved_too_far(
    config: LossConfig, logprobs: Tensor, old_logprobs: Tensor | None, advantages: Tensor
) -> Tensor:
    """Beyond the trust region, on the side to which the advantage pulls; 0 pulls down, as with the others."""
    if old_logprobs is None:
        return torch.zeros_like(logprobs, dtype=torch.bool)
    p, old = logprobs.exp(), old_logprobs.exp()
    if config.loss == "dppo":
        return torch.where(advantages > 0, p - old > config.clip_high, old - p > config.clip_low)
    rest = torch.log((1 - old + 1e-8) / (1 - p + 1e-8))
    kl = old * (old_logprobs - logprobs) + (1 - old) * rest  # of taking this token or another one
    return torch.where(
        advantages > 0, (kl > config.clip_high) & (p > old), (kl > config.clip_low) & (p < old)
    )


def _surrogate(
    config: LossConfig, logprobs: Tensor, ratio: Tensor, tokens: TokenData
) -> tuple[Tensor, Tensor, Tensor]:
    """value, d value / d log ratio (= d logprob, but for gspo and gmpo), and where the clip acts."""
    advantages, never = tokens.advantages, torch.zeros_like(ratio, dtype=torch.bool)
    if config.loss == "gmpo":
        return -ratio * advantages, -ratio * advantages, never
    if config.loss == "sapo":
        tau = torch.where(advantages > 0, config.tau_pos, config.tau_neg).to(ratio.dtype)
        gate = torch.sigmoid(tau * (ratio - 1))
        flat = gate * (1 - gate) == 0  # far out, where ratio may be inf
        slope = torch.where(flat, 0.0, -4 * gate * (1 - gate) * ratio * advantages)
        return -4 * gate / tau * advantages, slope, never
    if config.loss in MASKED:
        beyond = _moved_too_far(config, logprobs, tokens.old_logprobs, advantages)
        value = torch.where(beyond, 0.0, -ratio * advantages)
        return value, value, beyond
    if config.loss == "reinforce":
        return -advantages * logprobs, -advantages, never
    bounded = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    if config.loss == "cispo":
        pull = -bounded * advantages
        return pull * logprobs, pull, ratio != bounded
    free, bound = -ratio * advantages, -bounded * advantages
    clipped = bound > free
    value = torch.maximum(free, bound)
    if config.dual_clip is not None:
        worst = -config.dual_clip * advantages
        beyond = (advantages < 0) & (value > worst)
        value, clipped = torch.where(beyond, worst, value), clipped | beyond
    return value, torch.where(clipped, 0.0, free), clipped


def _kl(config: LossConfig, logprobs: Tensor, ref_logprobs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Estimate of KL(policy || reference) per token, and its derivative by the log-prob."""
    if ref_logprobs is None:
        return torch.zeros_like(logprobs), torch.zeros_like(logprobs)
    gap = ref_logprobs - logprobs
    if config.kl_clip is None:
        return _estimate(config.kl, gap)
    max_gap, max_kl = config.kl_clip
    kl, slope = _estimate(config.kl, gap.clamp(-max_gap, max_gap))
    held = (gap.abs() > max_gap) | (kl.abs() > max_kl)
    return kl.clamp(-max_kl, max_kl), torch.where(held, 0.0, slope)


def _estimate(kl: str, gap: Tensor) -> tuple[Tensor, Tensor]:
    if kl == "k1":
        return -gap, torch.ones_like(gap)
    if kl == "k2":
        return gap * gap / 2, -gap
    return torch.expm1(gap) - gap, -torch.expm1(gap)


def _weigh(x: Tensor, token_weights: Tensor | None) -> Tensor:
    return x if token_weights is None else torch.where(token_weights != 0, x * token_weights, 0.0)


def _segment_sum(x: Tensor, lengths: Tensor) -> Tensor:
    """[U] in float64; no atomics, so two runs agree bit for bit."""
    return torch.segment_reduce(x.double(), "sum", lengths=lengths, unsafe=True, initial=0)


def _spread(per_segment: Tensor, lengths: Tensor, like: Tensor) -> Tensor:
    return per_segment.to(like.dtype).repeat_interleave(lengths, output_size=like.shape[0])
