"""One request to an OpenAI-compatible server, by the `openai` client, and what its failures mean.

A failure is `Again` (busy, broken, too late: worth another try), `TooLong` (the conversation exceeds the
model's context), `Refused` (this request alone) or `Hopeless` (every request will fail: key, name, address).
"""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from lamer_fast.samplers.endpoint.options import EndpointOptions
from lamer_fast.samplers.endpoint.usage import Usage, usage_of
from lamer_fast.samplers.protocol import Sampling
from lamer_fast.say import log
from lamer_fast.text import one_line

MAX_MESSAGE = 300  # characters of a server's words that a line of ours quotes
TOO_LONG = re.compile(
    r"context[ _](length|window|size)|max(imum)?[ _]?(model[ _]len|context|sequence|input)|prompt is too long"
    r"|too many (input )?tokens|input is too long|exceeds? the (maximum|available|limit)",
    re.IGNORECASE,
)
# vLLM takes what a request does not say from the model's generation_config.json (vllm#15281)
VLLM_OFF = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
LIST_S = 30.0  # for the list of models
NEUTRAL = {"temperature": 1.0, "top_p": 1.0}  # a server that refuses the parameter does the same without it
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Failure(Exception):
    """Its text is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message, MAX_MESSAGE))


class Again(Failure):
    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s  # that the server asks for


class TooLong(Failure):
    pass


class Refused(Failure):
    pass


class Hopeless(Failure):
    pass


@dataclass(frozen=True)
class Question:
    messages: list[dict[str, str]]
    max_tokens: int
    seed: int
    sampling: Sampling


@dataclass(frozen=True)
class Answer:
    text: str
    ended: bool  # False: it was cut by the limit
    usage: Usage


class OpenAIAsk:
    """`ask(question) -> Answer`, from any thread.

    Raises:
        ValueError: the package is missing; the server does not say which model it has.
    """

    def __init__(self, options: EndpointOptions) -> None:
        try:
            import openai
        except ImportError:
            raise ValueError(
                "an endpoint needs the openai package: pip install 'lamer-fast[endpoint]'"
            ) from None
        self._openai, self._options = openai, options
        self._key = os.environ.get(options.key_env, "")
        host = urlsplit(options.url or "")
        if self._key and host.scheme == "http" and host.hostname not in LOOPBACK:
            log.warning(f"the key in {options.key_env} goes to {options.shown} unencrypted")
        self._client = openai.OpenAI(
            base_url=options.url, api_key=self._key or "none", max_retries=0, timeout=options.timeout_s
        )
        self._lock = threading.Lock()
        self._limit = "max_tokens" if options.limit == "auto" else options.limit
        self._dropped: set[str] = set()  # parameters that the server does not take
        self._extra = options.extra_fields()
        models = self._models()
        self.model = options.model or self._only([str(name) for name, _ in models])
        self._off = VLLM_OFF if any(owner == "vllm" for _, owner in models) else {}

    def __call__(self, question: Question) -> Answer:
        while True:
            limit, dropped = self._limit, frozenset(self._dropped)
            try:
                return _answer(self._request(question, limit, dropped))
            except self._openai.OpenAIError as error:
                failure = self._meaning(error)
                if isinstance(failure, Refused) and self._adapts(str(error), question, limit, dropped):
                    continue
                raise failure from error
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                body = getattr(error, "doc", "") or str(error)
                raise Again(f"the answer is not JSON: {body.strip() or 'empty'}") from error

    def _request(self, question: Question, limit: str, dropped: frozenset[str]) -> Any:
        sampling = question.sampling
        fields: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": question.seed % 2**31,
            limit: question.max_tokens,
        }
        # a server's own defaults hold for what is not named, so that these two are always said
        fields = {key: value for key, value in fields.items() if key not in dropped}
        beyond = {"top_k": sampling.top_k, "min_tokens": sampling.min_tokens}
        extra = self._off | {key: value for key, value in beyond.items() if value} | self._extra
        return self._client.chat.completions.create(
            model=self.model, messages=question.messages, stream=False, extra_body=extra, **fields
        )

    def _adapts(self, message: str, question: Question, limit: str, dropped: frozenset[str]) -> bool:
        """Whether another form of the request may be taken, by what the server says of this one."""
        with self._lock:
            auto = self._options.limit == "auto" and limit == "max_tokens"
            if auto and "max_completion_tokens" in message:
                self._limit = "max_completion_tokens"
                return True
            if "seed" in message and "seed" not in dropped:
                self._dropped.add("seed")
                return True
            for name, neutral in NEUTRAL.items():
                if name in message and name not in dropped and getattr(question.sampling, name) == neutral:
                    self._dropped.add(name)
                    return True
        return False

    def _meaning(self, error: Exception) -> Failure:
        openai, message = self._openai, str(error)
        message = message.replace(self._key, "...") if self._key else message
        if isinstance(error, openai.APITimeoutError):
            return Again(f"no answer within {self._options.timeout_s:g} s")
        if not isinstance(error, openai.APIStatusError):
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            return Again(f"{type(error).__name__}: {message}{cause}")
        status, code = error.status_code, str(error.code or "")
        message = message if not code or code in message else f"{message} ({code})"
        if "insufficient_quota" in message:
            return Hopeless(message)
        if status in (408, 409, 425, 429) or status >= 500:
            return Again(message, _wait_s(error.response.headers))
        if status in (400, 413, 422) and TOO_LONG.search(message):
            return TooLong(message)
        if status in (401, 403) and not self._key:
            return Hopeless(f"{message}; {self._options.key_env} holds no key")
        if status == 404:
            where = f"the address, which often ends in /v1, and {self._options.model!r} its model"
            return Hopeless(f"{message}; is {self._options.shown} {where}?")
        return Hopeless(message) if status in (401, 402, 403, 405) else Refused(message)

    def _models(self) -> list[tuple[Any, Any]]:
        """(name, owner) of the server's models; nothing where it does not list them.

        Raises:
            ValueError: no list, and nobody has named the model.
        """
        try:
            listed = (
                self._client.with_options(timeout=min(LIST_S, self._options.timeout_s)).models.list().data
            )
            return [(model.id, getattr(model, "owned_by", None)) for model in listed]
        except self._openai.OpenAIError as error:
            if self._options.model is None:
                raise ValueError(f"{self._options.shown}: {self._meaning(error)}") from None
        except (AttributeError, TypeError, ValueError):  # no list, or no JSON
            pass
        return []

    def _only(self, names: list[str]) -> str:
        if len(names) != 1:
            known = f"it has {', '.join(names[:20])}" if names else "it does not list any"
            raise ValueError(f"--endpoint.model is missing, and {self._options.shown} cannot say: {known}")
        return names[0]


def _answer(response: Any) -> Answer:
    """Of a response with status 200, which may still be none."""
    choices = getattr(response, "choices", None)
    if not choices:
        problem = (getattr(response, "model_extra", None) or {}).get("error")
        shown = response if isinstance(response, str) else problem or "it has no choices"
        raise Again(f"the answer holds no reply: {shown}")
    choice = choices[0]
    usage = usage_of(getattr(response, "usage", None))
    text = _text(getattr(getattr(choice, "message", None), "content", None))
    ended = choice.finish_reason != "length"
    if not ended and text.rfind("<think>") > text.rfind("</think>"):
        text += "</think>"  # what was cut off while it thought is no answer
    return Answer(text, ended, replace(usage, cut=int(not ended), empty=int(not text.strip())))


def _text(content: Any) -> str:
    """The reply: a text, parts of one, or nothing (all tokens went into thinking, or it refused)."""
    if isinstance(content, list):
        parts = (
            part.get("text") if isinstance(part, dict) else getattr(part, "text", None) for part in content
        )
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _wait_s(headers: Any) -> float | None:
    """What `Retry-After` asks for, where it is a number of seconds."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait = float(headers[name]) * unit
        except (KeyError, TypeError, ValueError):
            continue
        if 0 <= wait < float("inf"):
            return wait
    return None
