"""What is trained, and what an update needs to know of an algorithm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.learn.optimizer import Optimizer
from lamer_fast.learn.policy import Policy
from lamer_kernels.head.policy import PolicyLoss


@dataclass(frozen=True)
class Trainable:
    """A module, and the optimizer of its masters."""

    module: Policy
    optimizer: Optimizer


class Algorithm(Protocol):
    """`algo/algorithm.py` has it whole."""

    config: AlgoConfig
    trainables: Mapping[str, Trainable]

    def losses(self, batch: PolicyBatch) -> Mapping[str, PolicyLoss]: ...
