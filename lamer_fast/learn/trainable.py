"""What is trained, and what an update needs to know of an algorithm."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.learn.gradients import Masters
from lamer_fast.learn.optimizer import Optimizer
from lamer_fast.learn.policy import Policy
from lamer_kernels.head.policy import PolicyLoss


class Trained(Protocol):
    @property
    def masters(self) -> Masters: ...


@dataclass(frozen=True)
class Trainable:
    """A module, and the optimizer of its masters."""

    module: Trained
    optimizer: Optimizer


class Algorithm(Protocol):
    """`algo/algorithm.py` has it whole."""

    config: AlgoConfig
    trainables: Mapping[str, Trainable]

    @property
    def policy(self) -> Policy: ...

    def losses(self, batch: PolicyBatch) -> Mapping[str, Callable[[], Any]]: ...

    def lesson(self, batch: PolicyBatch) -> PolicyLoss: ...
