"""The sampler's side of a rollout: token ids in, token ids and log-probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # an endpoint's sampler runs where there is no torch
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Training sets temperature alone: a cut distribution makes its ratios wrong.

    Order: temperature, then `top_k`, then `top_p` of what is left.
    """

    temperature: float = 1.0  # 0 takes the likeliest token
    top_p: float = 1.0  # the fewest tokens that hold this share of the probability; 1 is off
    top_k: int = 0  # this many likeliest tokens; 0 is off
    min_tokens: int = 0  # no stop id is drawn before so many tokens

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and 0 < self.top_p <= 1 and self.top_k >= 0 and self.min_tokens >= 0):
            raise ValueError(f"{self}: temperature, top_k and min_tokens are >= 0, top_p is in (0, 1]")


@dataclass(frozen=True)
class Request:
    """One reply that is wanted of a sampler."""

    id: int  # unique among the requests in flight
    trial: int  # key of the cache that a sampler may keep between requests
    token_ids: NDArray[np.int32]  # the FULL prompt; a sampler finds by itself what it has already computed
    seed: int  # of this request's own generator
    max_tokens: int  # of the reply, stop id included
    stop_ids: tuple[int, ...]  # generation ends after one of these, which is returned too
    sampling: Sampling = Sampling()  # how its tokens are drawn
    reflects: bool = False  # it asks for a reflection, not for a move
    episode: int = 0  # 0..K-1, for a reflection the next one; for policies that differ by episode


@dataclass(frozen=True)
class Completion:
    """The reply to a request."""

    id: int  # of the request
    token_ids: NDArray[np.int32]  # [n] sampled ids, a sampled stop id included
    logprobs: NDArray[np.float32]  # [n] nats, of the sampled ids, after temperature (at 0: of temperature 1)
    stopped: bool  # True: ended by a stop id; False: cut by max_tokens
    policy_version: int  # of the weights that sampled it, as `load_weights` gave it
    error: str | None = None  # no reply: its trial is lost, by no fault of the policy
    too_long: bool = (
        False  # with an error: the prompt exceeds what the model can read, its trial is truncated
    )


# a sampler's `observe`: gets (ids of requests, [B, V] log-probabilities that their next tokens are drawn by)
Observer = Callable[[Sequence[int], "Tensor"], None]


class Sampler(Protocol):
    """Draws replies by the weights that it was given last, many requests at a time."""

    shares_weights: bool  # the sampler reads the trainer's own tensors: load_weights is bookkeeping only
    max_sequence_tokens: int  # prompt and reply together

    def submit(self, request: Request) -> None:
        """Begins a request; `poll` returns its completion."""
        ...

    def poll(self) -> list[Completion]:
        """One engine step (a token per request in flight, or a chunk of a prompt); returns finished ones."""
        ...

    def release(self, trial: int) -> None:
        """The trial has no further requests: its cache may be dropped."""
        ...

    def cancel(self, request_id: int) -> None:
        """Drops a request in flight; it has no completion."""
        ...

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, at temperature 1; the first entry is 0."""
        ...

    def sleep(self) -> None:
        """Gives memory back until `load_weights`; no request is in flight."""
        ...

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Takes the policy's new weights, by which all later tokens are drawn."""
        ...
