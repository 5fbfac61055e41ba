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
from lamer_fast.learn.disturb import disturb
from lamer_fast.learn.policy import Policy
from lamer_fast.model.adapters import adapter_names
from lamer_fast.model.architecture import Architecture


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
        disturbed(policy)
        trainer.forget()
        sampler.load_weights(policy.weights_for(sampler), version=1)

    if not transfer:
        return examine(sampling, trainer, replays, reference, num_ids=policy.num_ids)
    previous |= {name: p.detach().to("cpu", copy=True) for name, p in policy.model.named_parameters()}
    try:
        found = examine(sampling, trainer, replays, reference, num_ids=policy.num_ids, transfer=other_weights)
    finally:
        put_back(policy, previous)
    sampling.release(len(replays))
    sampler.load_weights(policy.weights_for(sampler), version=0)
    return found


@torch.no_grad()
def put_back(policy: Policy, kept: dict[str, Tensor]) -> None:
    for name, parameter in policy.model.named_parameters():
        parameter.copy_(kept[name])


def disturbed(policy: Policy) -> None:
    """Other values for what a transfer brings: adapters alone where there are any. Masters stay the same."""
    generator = torch.Generator().manual_seed(0)
    trained = adapter_names(policy.model)
    for name, parameter in policy.model.named_parameters():
        if not trained or name in trained:
            disturb(parameter, generator)
