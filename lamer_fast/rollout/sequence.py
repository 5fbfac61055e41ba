"""A growing token sequence, and the arrays of a turn table that grow with the trials."""

import numpy as np
from numpy.typing import NDArray


class Sequence:
    """Tokens of one conversation, appended in place; views of `tokens` stay valid while it grows."""

    __slots__ = ("_logprobs", "_loss_mask", "_tokens", "length")

    def __init__(self, capacity: int = 256) -> None:
        self._tokens = np.empty(capacity, np.int32)
        self._loss_mask = np.zeros(capacity, bool)
        self._logprobs = np.zeros(capacity, np.float32)
        self.length = 0

    @property
    def tokens(self) -> NDArray[np.int32]:
        return self._tokens[: self.length]

    @property
    def loss_mask(self) -> NDArray[np.bool_]:
        return self._loss_mask[: self.length]

    @property
    def logprobs(self) -> NDArray[np.float32]:
        return self._logprobs[: self.length]

    def extend(self, tokens: NDArray[np.int32], logprobs: NDArray[np.float32] | None = None) -> None:
        """Append prompt tokens, or sampled ones with their log-probabilities (loss_mask True)."""
        end = self.length + len(tokens)
        if end > len(self._tokens):
            self._reserve(max(end, 2 * len(self._tokens)))
        self._tokens[self.length : end] = tokens
        if logprobs is not None:
            self._loss_mask[self.length : end] = True
            self._logprobs[self.length : end] = logprobs
        self.length = end

    def _reserve(self, capacity: int) -> None:
        for name in ("_tokens", "_loss_mask", "_logprobs"):
            old = getattr(self, name)
            new = np.zeros(capacity, old.dtype)
            new[: self.length] = old[: self.length]
            setattr(self, name, new)
