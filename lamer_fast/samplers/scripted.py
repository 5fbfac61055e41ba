"""What samplers without a model have in common: players that answer requests by rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamer_fast.samplers.protocol import Request

if TYPE_CHECKING:
    from torch import Tensor


class ScriptedSampler:
    """A `Sampler` but for `poll`, which takes `waiting()`. It keeps no cache and has no weights."""

    shares_weights = True

    def __init__(self, max_sequence_tokens: int) -> None:
        self.max_sequence_tokens = max_sequence_tokens
        self._waiting: list[Request] = []

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def waiting(self) -> list[Request]:
        """Those submitted since the last call."""
        requests, self._waiting = self._waiting, []
        return requests

    def release(self, trial: int) -> None:
        pass

    def cancel(self, request_id: int) -> None:
        self._waiting = [request for request in self._waiting if request.id != request_id]

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        raise NotImplementedError(f"{type(self).__name__} has no log-probabilities")

    def sleep(self) -> None:
        pass

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        pass
