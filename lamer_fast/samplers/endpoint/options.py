"""What `--endpoint.*` says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from lamer_fast.fields import Range


@dataclass(frozen=True)
class EndpointOptions:
    url: str | None = None
    """OpenAI-compatible server whose model plays, for example http://127.0.0.1:8000/v1."""
    model: str | None = None
    """Name of the model on the server; not needed if the server has only one."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; local servers need none."""
    concurrency: Annotated[int, Range(1, 4096)] = 16
    """Maximum number of requests in flight."""
    timeout_s: Annotated[float, Range(0.01, 86_400)] = 600.0
    """A request without an answer within this time is given up and repeated."""
    max_retries: Annotated[int, Range(0, 100)] = 6
    """Maximum number of repetitions of a request after a busy server, a broken answer or a timeout."""
    max_wait_s: Annotated[float, Range(0, 3600)] = 60.0
    """Longest pause before a repetition, even if the server asks for a longer one."""
    max_lost: Annotated[float, Range(0, 1)] = 0.1
    """A larger share of lost trials ends the evaluation, which would say nothing about the model."""
    limit: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """Name of the reply limit in requests; auto tries the first, and the second if the server asks for it."""
    extra: str = "{}"
    """Further fields of each request as a JSON object, for example {"reasoning_effort": "low"}."""
    price_prompt: Annotated[float, Range(0)] | None = None
    """Price of a million prompt tokens, in any currency."""
    price_cached: Annotated[float, Range(0)] | None = None
    """Price of a million prompt tokens that the server had cached; by default the price of the others."""
    price_completion: Annotated[float, Range(0)] | None = None
    """Price of a million tokens of replies, thinking included."""

    def validate(self) -> None:
        """Raises ValueError naming what cannot be."""
        parts = urlsplit(self.url or "")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--endpoint.url {self.shown!r}: must be http://HOST... or https://HOST...")
        if (self.price_prompt is None) != (self.price_completion is None):
            raise ValueError(
                f"--endpoint.price-prompt {self.price_prompt} and --endpoint.price-completion "
                f"{self.price_completion}: give both or neither"
            )
        self.extra_fields()

    def extra_fields(self) -> dict[str, Any]:
        try:
            fields = json.loads(self.extra)
        except json.JSONDecodeError as error:
            raise ValueError(f"--endpoint.extra {self.extra!r} is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise ValueError(f"--endpoint.extra {self.extra!r} must be a JSON object")
        if taken := sorted(fields.keys() & {"messages", "model", "n", "stream"}):
            raise ValueError(f"--endpoint.extra sets {taken[0]!r}, which is the evaluation's own")
        return fields

    @property
    def shown(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.url or "")
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
