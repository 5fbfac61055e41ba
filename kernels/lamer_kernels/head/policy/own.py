"""Losses that another package has registered: a function of log-probs, differentiated by autograd."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..._core.registered import LOSSES as GROUP
from ..._core.registered import checked, function, refuse_idle
from .covariance import COVARIANCE
from .terms import LOSSES, LossConfig

OURS = (*LOSSES, *COVARIANCE)
DEFAULTS = {name: getattr(LossConfig, name) for name in ("tau_pos", "tau_neg")} | {
    "cu_segments": None, "clip_low": 0.2, "clip_high": 0.2, "dual_clip": None, "log_ratio_clip": None,
    "covariance": None, "dweight_out": None, "compact": "host",
}  # fmt: skip


def is_registered(loss: str, options: Mapping[str, object] | None, given: Mapping[str, object]) -> bool:
    """Whether another package's function is meant; ``ValueError`` for options or switches that would not act.

    given: the switches of our own losses, as the caller gave them.
    """
    if not isinstance(loss, str) or loss in OURS:
        if options is not None:
            raise ValueError(f"loss_options go with a loss that another package registers, got loss {loss!r}")
        return False
    function(GROUP, "loss", loss, OURS)
    refuse_idle("loss", loss, {name: (x, DEFAULTS[name]) for name, x in given.items()})
    return True


def registered_loss(
    loss: str,
    options: Mapping[str, object] | None,
    logprobs: Tensor,
    old_logprobs: Tensor | None,
    advantages: Tensor,
    token_weights: Tensor | None,
    importance_weights: Tensor | None,
) -> Tensor:
    """sum(token_weights x importance_weights x their loss), a scalar; token data as ``logprobs`` in shape."""
    old = logprobs.detach() if old_logprobs is None else old_logprobs.to(logprobs)
    present = torch.ones_like(logprobs, dtype=torch.bool)
    if token_weights is not None:
        present = token_weights.to(logprobs.device) != 0
    # no gradient comes back through a token of weight 0, where an infinite one would make NaN of it
    held = torch.where(present, logprobs, logprobs.detach())
    own = function(GROUP, "loss", loss, OURS)
    per_token = own(held, old, advantages.to(logprobs), **(options or {}))
    per_token = checked("loss", loss, per_token, logprobs, (logprobs.dtype,))
    for factor in (importance_weights, token_weights):
        if factor is not None:
            per_token = per_token * factor.to(logprobs)
    return torch.where(present, per_token, 0.0).sum()
