"""Critic: the value of the state before a turn, in units of reward, read at the last token of its prompt.

Axis letters: U turns of a batch, R of the turn table, H hidden.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import Minibatch, Packed, PolicyBatch
from lamer_fast.learn.gradients import Masters
from lamer_fast.learn.policy import Policy
from lamer_fast.learn.ranks import ALONE, Ranks
from lamer_fast.model.adapters import adapter_names


class ValueLoss(NamedTuple):
    loss: Tensor
    """Scalar, already weighted over its minibatch."""
    values: Tensor
    """[U] float32, detached."""


class Head(nn.Module):
    """[1, H], float32 zeros at first: every value begins at 0."""

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, width, device=device))


@dataclass(frozen=True)
class Critic:
    """
    Args:
        trunk: whose hidden states are read: one of its own, which is trained, or the policy's, which is not.
    """

    trunk: Policy
    head: nn.Module
    masters: Masters
    is_apart: bool

    @property
    def weight(self) -> Tensor:
        """[1, H]"""
        weight: Tensor = self.head.weight  # type: ignore[assignment]
        return weight

    @torch.no_grad()
    def values(self, batch: PolicyBatch) -> Tensor:
        """[U] float32."""
        return linear_values(self.trunk.hidden(before_turns(batch)), self.weight)

    def loss(self, batch: PolicyBatch, clip: float, hidden: Tensor | None = None) -> ValueLoss:
        """
        Args:
            hidden: [L, H] of the policy for the same batch, where its trunk is read.
        """
        if self.is_apart:
            narrow = replace(batch, packed=before_turns(batch))
            found: Any = self.trunk(
                narrow, lambda states, *_: value_loss(linear_values(states, self.weight), batch, clip)
            )
            return found  # type: ignore[no-any-return]
        assert hidden is not None
        first = hidden.detach()[batch.cu_segments[:-1]]
        return value_loss(linear_values(first, self.weight), batch, clip)


def make_critic(algo: AlgoConfig, policy: Policy) -> Critic | None:
    """None where the estimator needs none. A trunk of its own begins as the policy's, of which it shares what
    is not trained."""
    if algo.estimator != "gae":
        return None
    head = Head(policy.head_weight.shape[1], policy.device)
    if algo.critic == "head":
        return Critic(policy, head, Masters(head, policy.dtype, frozen=False), is_apart=False)
    adapters = adapter_names(policy.model)
    frozen = {id(p): p for name, p in policy.model.named_parameters() if adapters and name not in adapters}
    model = copy.deepcopy(policy.model, dict(frozen))
    model.set_output_embeddings(head)
    trunk = Policy(model, policy.tokenizer, policy.dtype, num_ids=1, trained_head=True)
    return Critic(trunk, head, trunk.masters, is_apart=True)


def before_turns(batch: PolicyBatch) -> Packed:
    """The same tokens, of which the last before each turn are asked for; [U]."""
    packed, first = batch.packed, batch.cu_segments[:-1]
    return replace(packed, token_idx=packed.token_idx[first], targets=packed.targets[first])


def linear_values(hidden: Tensor, weight: Tensor) -> Tensor:
    """[U, H] -> [U] float32."""
    return F.linear(hidden.float(), weight.float())[:, 0]


def value_loss(values: Tensor, batch: PolicyBatch, clip: float) -> ValueLoss:
    """Half the squared distance to `batch.returns`, a mean over the turns of the whole minibatch.

    With `clip` above 0 a value that has left `batch.old_values` by more than that has the larger of its own
    loss and the one at the border, so that it is not pulled any further.
    """
    assert batch.returns is not None and batch.old_values is not None
    error = (values - batch.returns).square()
    if clip > 0:
        inside = batch.old_values + (values - batch.old_values).clamp(-clip, clip)
        error = torch.maximum(error, (inside - batch.returns).square())
    return ValueLoss(0.5 * error.sum() / batch.num_turns, values.detach())


def turn_values(
    critic: Critic, minibatches: list[Minibatch], num_turns: int, ranks: Ranks = ALONE
) -> NDArray[np.float32]:
    """[R] of all ranks' turns, before the first update; 0 for those that no batch has."""
    rows, found = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for batch in (batch for minibatch in minibatches for batch in minibatch):
        assert batch.turns is not None
        rows.append(batch.turns)
        found.append(critic.values(batch).cpu().numpy())
    values = np.zeros(num_turns, np.float32)
    for turns, of_rank in ranks.gather((np.concatenate(rows), np.concatenate(found))):
        values[turns] = of_rank
    return values


def add_targets(
    minibatches: list[Minibatch], values: NDArray[np.float32], returns: NDArray[np.float32]
) -> None:
    """Puts batches that know what their turns' values were and should be in place of those without."""
    for minibatch in minibatches:
        for i, batch in enumerate(minibatch):
            minibatch[i] = replace(batch, old_values=_of(batch, values), returns=_of(batch, returns))


def _of(batch: PolicyBatch, column: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(column[batch.turns]).to(batch.rollout_logprobs.device)
