"""The audit of a policy and its sampler, over trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lamer_fast.audit.examine import Audit, examine
from lamer_fast.audit.reference import Reference
from lamer_fast.audit.replay import Replay
from lamer_fast.audit.sides import PolicySide, SamplerSide
from lamer_fast.learn.policy import Policy
from lamer_fast.model.architecture import Architecture

NOISE = 0.1  # standard deviations of a weight


def audit_policy(
    sampler: Any, policy: Policy, replays: Sequence[Replay], temperature: float, *, transfer: bool = True
) -> Audit:
    """Of a sampler with `observe` against the policy's own forward pass.

    Args:
        transfer: also after other weights of the same size have been transferred. The old ones are put back.

    Raises:
        ValueError: the reference does not compute the policy's family.
    """
    previous: dict[str, Tensor] = {}
    Reference.check(policy.model.config)
    trainer = PolicySide(policy, temperature)
    sampling = SamplerSide(sampler, Architecture.of(policy.model.config), temperature)

    def reference() -> Reference:
        return Reference(policy.model, temperature, policy.num_ids, previous or None)

    def other_weights() -> None:
        disturb(policy)
        trainer.forget()
        sampler.load_weights(policy.named_weights(), version=1)

    if not transfer:
        return examine(sampling, trainer, replays, reference, num_ids=policy.num_ids)
    previous |= {name: p.detach().to("cpu", copy=True) for name, p in policy.model.named_parameters()}
    try:
        found = examine(sampling, trainer, replays, reference, num_ids=policy.num_ids, transfer=other_weights)
    finally:
        put_back(policy, previous)
    sampling.release(len(replays))
    sampler.load_weights(policy.named_weights(), version=0)
    return found


@torch.no_grad()
def put_back(policy: Policy, kept: dict[str, Tensor]) -> None:
    for name, parameter in policy.model.named_parameters():
        parameter.copy_(kept[name])


@torch.no_grad()
def disturb(policy: Policy) -> None:
    """Other weights of the same size, so that a tensor that stays behind shows. Masters stay as they are."""
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.model.parameters():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter)
        parameter += NOISE * parameter.float().std(correction=0).to(parameter.dtype) * noise
