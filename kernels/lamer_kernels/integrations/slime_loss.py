"""slime 0.3: the policy loss, from log-probs.

    --loss-type custom_loss --custom-loss-function-path lamer_kernels.integrations.slime_loss.loss
    --custom-config-path lamer.yaml  # lamer_loss: {loss: sapo}

A custom loss gets logits, so it saves no head: log-probs come from slime's own function, parallel heads too.
A head without logits needs a model provider that returns log-probs in their place, and a patch of
``get_log_probs_and_entropy``, which asserts float32 logits.
"""

from collections.abc import Callable
from importlib import import_module
from math import inf
from typing import Any

import torch
from torch import Tensor

from ..head.policy import policy_loss
from ..head.policy.terms import OF_SEGMENTS

LOSSES = {"gspo": "gspo", "cispo": "cispo"}
"""By slime's estimator; clip for the others."""
UNKNOWN = ("use_opsm", "use_unbiased_kl", "custom_tis_function_path", "custom_pg_loss_reducer_function_path")


def loss(
    args: Any, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Callable[[Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """In place of slime's ``policy_loss_function``; ``args.lamer_loss``: switches of `policy_loss`."""
    theirs = import_module("slime.backends.megatron_utils.loss")
    _, found = theirs.get_log_probs_and_entropy(
        logits, args=args, unconcat_tokens=batch["unconcat_tokens"], total_lengths=batch["total_lengths"],
        response_lengths=batch["response_lengths"], with_entropy=True,
        **theirs.get_rollout_top_p_logprob_kwargs(args, batch),
    )  # fmt: skip
    total, log = loss_of_log_probs(args, batch, found["log_probs"], found["entropy"], sum_of_sample_mean)
    return (total if total.requires_grad else total + 0 * logits.sum()), log


def loss_of_log_probs(
    args: Any, batch: dict[str, Any], log_probs: list[Tensor], entropy: list[Tensor],
    sum_of_sample_mean: Callable[[Tensor], Tensor],
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Lists of a tensor per sample, as slime keeps them. TIS as its ``vanilla_tis_function``: by tokens."""
    for name in UNKNOWN:
        if getattr(args, name, None):
            raise ValueError(f"{name} is slime's own loss alone, got {getattr(args, name)!r}")
    now = torch.cat(log_probs)
    probe = torch.zeros_like(now, requires_grad=True)
    weights = torch.autograd.grad(sum_of_sample_mean(probe), probe)[0] if len(now) else probe.detach()
    mask = torch.cat(batch["loss_masks"])
    idx = mask.nonzero()[:, 0] if len(mask) == len(now) else torch.arange(len(now), device=now.device)

    def take(name: str) -> Tensor:
        return torch.cat(batch[name])[idx] if batch.get(name) else now.detach()[idx]

    old = take("rollout_log_probs" if args.use_rollout_logprobs else "log_probs")
    switches: dict[str, Any] = {"loss": LOSSES.get(args.advantage_estimator, "clip")}
    switches |= {"clip_low": args.eps_clip, "clip_high": args.eps_clip_high}
    if args.use_tis:
        ratio = (take("log_probs") - take("rollout_log_probs")).exp()
        switches["importance_weights"] = ratio.clamp(args.tis_clip_low, args.tis_clip)
    if args.use_kl_loss and args.kl_loss_coef:
        switches |= {"ref_logprobs": take("ref_log_probs"), "kl_coef": args.kl_loss_coef}
        switches |= (
            {"kl": args.kl_loss_type} if args.kl_loss_type != "low_var_kl" else {"kl_clip": (inf, 10.0)}
        )
    switches |= getattr(args, "lamer_loss", None) or {}
    if switches["loss"] in ("clip", "gspo"):
        switches.setdefault("dual_clip", args.eps_clip_c)
    if switches["loss"] in OF_SEGMENTS:
        if len(mask) != len(now):
            raise ValueError(
                f"loss {switches['loss']!r} needs whole samples, got {len(now)} of {len(mask)} tokens"
            )
        counts = torch.stack([m.sum().long() for m in batch["loss_masks"]])
        switches["cu_segments"] = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    entropies, weights = torch.cat(entropy)[idx], weights[idx]
    out = policy_loss(
        now[idx], old, take("advantages"), token_weights=weights, entropy=entropies,
        entropy_coef=args.entropy_coef, **switches,
    )  # fmt: skip
    values = {"loss": out.loss, "ppo_kl": (weights * (old - out.logprobs)).sum()}
    values |= {"entropy_loss": (weights * entropies).sum(), "pg_clipfrac": (weights * out.clipped).sum()}
    return out.loss, {name: value.detach() for name, value in values.items()}
