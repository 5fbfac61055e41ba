"""prime-rl 0.7 and 0.8: losses by import path, and our log-prob head in place of its fused one.

    [trainer.loss]
    type = "custom"
    import_path = "lamer_kernels.integrations.prime_rl.loss"
    kwargs = { loss = "dppo", kl_tau = 1e-3 }  # as its default loss; or { loss = "clip", clip_high = 0.28 }

The head has no path in its configuration: `use_head` on the model after ``inject_prime_lm_head``, or
`replace_head` in a launcher of your own before its trainer runs. Advantages have no public place since 0.7
(``CustomAdvantageConfig`` of 0.6 is gone): ``Algorithm.score_group`` is what a patch would replace, by
`turns.turn_advantages`.
"""

from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..head.logprob import linear_logprob
from ..head.policy import policy_loss

HEAD_ARGUMENTS = ("self", "hidden_states", "labels", "temperature")
RATIOS = ("clip", "cispo", "sapo", "dppo", "dppo_kl")


class LossOutputs(NamedTuple):
    """As prime-rl reads them, by name."""

    loss: Tensor
    metrics: dict[str, Tensor]


def loss(
    inputs: Any, *, loss: str = "dppo", adv_tau: float = 1.0, kl_tau: float = 0.0, **switches: Any
) -> LossOutputs:
    """The sum over the loss tokens of one sample; prime-rl divides by its count of tokens.

    Args:
        inputs: ``LossInputs`` of prime-rl, all [T].
        loss: of `policy_loss`, one that works token by token.
        adv_tau: factor of the advantages.
        kl_tau: factor of the squared log-ratio to the sampling policy.
        switches: clip_low, clip_high, dual_clip, ... of `policy_loss`; for dppo the bounds are prime-rl's
            ``dppo_mask_low`` and ``dppo_mask_high``.
    """
    if loss not in RATIOS:
        raise ValueError(f"loss must be one of {', '.join(RATIOS)}, got {loss!r}")
    idx = inputs.loss_mask.nonzero()[:, 0]
    old = inputs.inference_logprobs[idx].float()
    weights = None if inputs.loss_weights is None else inputs.loss_weights[idx].float()
    out = policy_loss(
        inputs.trainer_logprobs[idx].float(), old, adv_tau * inputs.advantages[idx].float(),
        token_weights=weights, loss=loss, ref_logprobs=old if kl_tau else None, kl="k2", kl_coef=2 * kl_tau,
        **switches,
    )  # fmt: skip
    return LossOutputs(out.loss, {"is_masked": out.clipped.float().sum() / max(len(idx), 1)})


def head_forward(
    self: Any, hidden_states: Tensor, labels: Tensor | None = None, temperature: Tensor | None = None
) -> dict[str, Tensor]:
    """Of ``FusedOutputLinear``: hidden [B, S, H], labels and temperature [B, S] -> logprobs, entropy [B, S].

    Float32; the entropy carries a gradient, which prime-rl's own refuses.
    """
    if labels is None or temperature is None:
        raise ValueError("the head needs labels and a temperature of each token, got None")
    out = linear_logprob(hidden_states, self.weight, labels, temperature=temperature.float(), entropy=True)
    assert out.entropy is not None  # asked for
    return {"logprobs": out.logprobs, "entropy": out.entropy}


def use_head(model: Any) -> None:
    """Replaces the forward of ``model.lm_head``, a ``FusedOutputLinear``.

    Raises:
        ValueError: another head: one that returns logits, or one of capped logits.
    """
    head = model.lm_head
    _check(type(head))
    head.forward = head_forward.__get__(head)


def replace_head(head_class: type[torch.nn.Module]) -> None:
    """The same for every model: head_class is prime-rl's ``FusedOutputLinear``."""
    _check(head_class)
    head_class.forward = head_forward


def _check(head_class: type[Any]) -> None:
    found = tuple(signature(head_class.forward).parameters)
    if head_class.__name__ != "FusedOutputLinear" or found != HEAD_ARGUMENTS:
        raise ValueError(
            f"prime-rl's FusedOutputLinear{HEAD_ARGUMENTS} is known, got {head_class.__name__}{found}"
        )
