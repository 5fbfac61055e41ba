"""What an endpoint was asked for: tokens, repeated requests, time lost by waiting."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Sums over requests; tokens as the server counts them."""

    requests: int = 0  # answered
    prompt: int = 0
    cached: int = 0  # of `prompt`, had been computed before
    completion: int = 0  # replies, thinking included
    reasoning: int = 0  # of `completion`, thinking where the server tells
    uncounted: int = 0  # answers without a count of tokens
    cut: int = 0  # replies that ended at the limit
    empty: int = 0  # replies without a text
    retries: int = 0
    waited_s: float = 0.0  # before them

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def price(self, prompt: float | None, cached: float | None, completion: float | None) -> float | None:
        """In the unit of the prices of a million tokens; None without prices."""
        if prompt is None or completion is None:
            return None
        of_cached = prompt if cached is None else cached
        spent = (self.prompt - self.cached) * prompt + self.cached * of_cached + self.completion * completion
        return spent / 1e6


def usage_of(values: Any) -> Usage:
    """Of one answer, from its `usage` object; servers leave out what they do not count."""
    prompt, completion = (_count(values, name) for name in ("prompt_tokens", "completion_tokens"))
    if prompt is None or completion is None:
        return Usage(requests=1, uncounted=1)
    cached = _count(_get(values, "prompt_tokens_details"), "cached_tokens")
    if cached is None:
        cached = _count(values, "prompt_cache_hit_tokens")
    reasoning = _count(_get(values, "completion_tokens_details"), "reasoning_tokens")
    return Usage(1, prompt, min(cached or 0, prompt), completion, min(reasoning or 0, completion))


def _count(values: Any, name: str) -> int | None:
    value = _get(values, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _get(values: Any, name: str) -> Any:
    return values.get(name) if isinstance(values, dict) else getattr(values, name, None)
