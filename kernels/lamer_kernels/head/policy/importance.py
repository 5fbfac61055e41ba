"""importance_weights: what the sampler's log-probs say of each token or sequence, as data of the losses."""

import torch
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import as_mask, check_choice, check_cu, check_tensor
from ..._core.numbers import check_number
from ..checks import ACC_DTYPES

LEVELS = ("token", "sequence", "geometric")
BEYOND = ("truncate", "zero", "mask")
LOG_BOUND = 20.0  # exp of more says nothing more; verl's and SkyRL's too


@accepts_numpy
def importance_weights(
    old_logprobs: Tensor,
    rollout_logprobs: Tensor,
    *,
    level: str = "token",
    low: float = 0.0,
    high: float = 2.0,
    beyond: str = "truncate",
    loss_mask: Tensor | None = None,
    cu_sequences: Tensor | None = None,
    validate: bool = False,
) -> Tensor:
    """Weights r = pi_old / pi_rollout with bounds, ``importance_weights`` of the losses.

    ``level`` chooses r. With d = old_logprobs - rollout_logprobs, and every exponent clamped to [-20, 20]::

        token      exp(d)
        sequence   exp(sum of d over the loss tokens of the token's sequence)
        geometric  exp(mean of d over them)

    ``beyond`` chooses the weight of an r outside [low, high]::

        truncate   the nearest bound (TIS: level token or sequence)
        zero       0, and r inside (IcePop; TRL's token_mask and sequence_mask)
        mask       0, and 1 inside (SkyRL's token and sequence masks, verl's rejection by k1)

    A token of weight 0 adds nothing to the loss but still counts in a mean. To leave it out of the mean, give
    ``token_weights`` the mask ``loss_mask & (weights > 0)``. Weights and masks multiply.

    Args:
        old_logprobs, rollout_logprobs: [L] or [S, L] fp32 or fp64, nats: the trainer's before the update and
            the sampler's.
        low, high: 0 <= low <= high; infinity is no bound.
        loss_mask: of that shape, bool or integers 0 and 1; weights outside are 0 and enter no sum. None: all.
        cu_sequences: [S+1] int64 or int32, the sequences in [L], which the levels of sequences need; the rows
            of [S, L] if not given.

    Returns:
        The shape and dtype of ``old_logprobs``, without gradient.

    Raises:
        ValueError, TypeError: shapes, dtypes, devices or settings do not fit; the message names them.
    """
    check_choice("level", level, LEVELS)
    check_choice("beyond", beyond, BEYOND)
    low, high = check_number("low", low, "[0, inf)"), check_number("high", high, "(0, inf]")
    if low > high:
        raise ValueError(f"low {low} is above high {high}")
    check_tensor("old_logprobs", old_logprobs, shape=None, dtypes=ACC_DTYPES)
    shape = tuple(old_logprobs.shape)
    dtypes = (old_logprobs.dtype,)
    check_tensor("rollout_logprobs", rollout_logprobs, shape=shape, dtypes=dtypes, like=old_logprobs)
    mask = torch.ones_like(old_logprobs, dtype=torch.bool)
    if loss_mask is not None:
        mask = as_mask("loss_mask", loss_mask, validate=validate)
        check_tensor("loss_mask", mask, shape=shape, dtypes=(torch.bool,), like=old_logprobs)
    mask = mask.reshape(-1)
    gap = torch.where(mask, (old_logprobs - rollout_logprobs).detach().reshape(-1), 0.0)
    if level == "token":
        if cu_sequences is not None:
            raise ValueError("cu_sequences goes with the levels of sequences, got level 'token'")
    else:
        if cu_sequences is None:
            if len(shape) != 2:
                raise ValueError(f"level {level!r} of shape {shape} needs cu_sequences, got None")
            cu_sequences = torch.arange(shape[0] + 1, device=mask.device) * shape[1]
        check_cu("cu_sequences", cu_sequences, mask.shape[0], like=mask, validate=validate)
        gap = _of_sequences(gap, mask, cu_sequences.long().diff(), mean=level == "geometric")
    ratio = gap.clamp(-LOG_BOUND, LOG_BOUND).exp()
    inside = (ratio >= low) & (ratio <= high)
    if beyond == "truncate":
        weights = ratio.clamp(low, high)
    else:
        weights = torch.where(inside, ratio if beyond == "zero" else torch.ones_like(ratio), 0.0)
    return torch.where(mask, weights, 0.0).view(shape)


def _of_sequences(gap: Tensor, mask: Tensor, lengths: Tensor, mean: bool) -> Tensor:
    """Sum or mean over the loss tokens of each sequence, in float64, spread over its tokens."""

    def total(x: Tensor) -> Tensor:
        return torch.segment_reduce(x.double(), "sum", lengths=lengths, unsafe=True, initial=0)

    sums = total(gap)
    if mean:
        sums = sums / total(mask).clamp(min=1)
    return sums.repeat_interleave(lengths, output_size=gap.shape[0]).to(gap.dtype)
