"""The sampler's side of a rollout: token ids in, token ids and log-probabilities out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Request:
    id: int  # unique among the requests in flight
    trial: int  # key of the cache that a sampler may keep between requests
    token_ids: NDArray[np.int32]  # the FULL prompt; a sampler finds by itself what it has already computed
    seed: int  # of this request's own generator
    max_tokens: int
    stop_ids: tuple[int, ...]  # generation ends after one of these, which is returned too


@dataclass(frozen=True)
class Completion:
    id: int
    token_ids: NDArray[np.int32]  # [n] sampled ids, a sampled stop id included
    logprobs: NDArray[np.float32]  # [n] nats, of the sampled ids, after temperature
    stopped: bool  # True: ended by a stop id; False: cut by max_tokens
    policy_version: int


class Sampler(Protocol):
    shares_weights: bool  # the sampler reads the trainer's own tensors: load_weights is bookkeeping only
    max_sequence_tokens: int

    def submit(self, request: Request) -> None: ...

    def poll(self) -> list[Completion]:
        """One engine step (one decoded token for everything in flight, or a prefill chunk). May be empty."""
        ...

    def release(self, trial: int) -> None:
        """Nothing more will be asked for this trial: its cache may go."""
        ...

    def cancel(self, request_id: int) -> None: ...

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, temperature applied; the first entry is 0."""
        ...

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None: ...
