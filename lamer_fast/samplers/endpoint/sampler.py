"""EndpointSampler: the sampler of an evaluation through a server, a bounded number of requests at a time."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.messages import MessageRenderer, messages
from lamer_fast.rng import uniforms
from lamer_fast.samplers.endpoint.ask import Again, Answer, Failure, Hopeless, Question, TooLong
from lamer_fast.samplers.endpoint.options import EndpointOptions
from lamer_fast.samplers.endpoint.usage import Usage
from lamer_fast.samplers.protocol import Completion, Request
from lamer_fast.say import log

if TYPE_CHECKING:
    from torch import Tensor

POLL_S = 0.2  # that a poll waits for the first answer
FIRST_WAIT_S = 0.5  # before the first repetition; doubled before each further one
GRACE_S = 30.0  # beyond its own limit, after which a request that does not return is left alone
NOTE_S = 30.0  # between two notes about waiting


class EndpointSampler:
    """Implements `Sampler`; a token is a character (`MessageRenderer`), and there are no log-probabilities.

    A request that fails is made again up to `max_retries` times, after pauses that double, or as long as the
    server asks for. Then its trial is lost, and says so; so it is when a request never returns. A
    conversation that the model cannot hold ends its trial as too long. What every request would meet (no
    key, no such model) ends the evaluation at once, and so does anything but a busy server before the first
    answer.

    Args:
        ask: one request, from several threads at once; raises `Failure`.
    """

    shares_weights = True
    max_sequence_tokens = 10_000_000  # characters: the server knows the limit of its model

    def __init__(self, ask: Callable[[Question], Answer], options: EndpointOptions) -> None:
        self.ask, self.options, self.renderer = ask, options, MessageRenderer()
        self.usage = Usage()
        self._todo: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Request, Answer | Failure]] = queue.SimpleQueue()
        self._waiting: dict[int, Request] = {}  # by id: submitted, neither answered nor cancelled
        self._since: dict[int, float] = {}  # by id: when the attempt began that is being made
        self._lock = threading.Lock()
        self._num_workers = 0
        self._answered = False
        self._noted = -math.inf

    def submit(self, request: Request) -> None:
        self._waiting[request.id] = request
        self._todo.put(request)
        if self._num_workers < min(self.options.concurrency, len(self._waiting)):
            self._hire()

    def poll(self) -> list[Completion]:
        """What has been answered; waits a moment for the first.

        Raises:
            ValueError: no request will be answered.
        """
        found = []
        wait = POLL_S if self._waiting else 0.0
        while True:
            try:
                request, answer = self._done.get(timeout=wait) if wait else self._done.get_nowait()
            except queue.Empty:
                break
            wait = 0.0
            if self._waiting.get(request.id) is request:
                del self._waiting[request.id]
                found.append(self._completion(request, answer))
        return found + self._overdue()

    def cancel(self, request_id: int) -> None:
        self._waiting.pop(request_id, None)

    def release(self, trial: int) -> None:
        pass

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        raise ValueError("an endpoint gives no log-probabilities")

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        raise ValueError("the weights of an endpoint are its server's")

    def _completion(self, request: Request, answer: Answer | Failure) -> Completion:
        nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
        if isinstance(answer, Answer):
            self._answered = True
            ids = self.renderer.reply(answer.text, answer.ended)
            return Completion(request.id, ids, np.zeros(len(ids), np.float32), answer.ended, 0)
        if isinstance(answer, TooLong):
            return Completion(request.id, *nothing, False, 0, error=str(answer), too_long=True)
        if isinstance(answer, Hopeless) or not self._answered:
            raise ValueError(f"{self.options.shown}: {answer}")
        return Completion(request.id, *nothing, False, 0, error=f"{self.options.shown}: {answer}")

    def _overdue(self) -> list[Completion]:
        """Requests that do not return although their time is over; their threads are left alone."""
        now, limit = time.monotonic(), self.options.timeout_s + GRACE_S
        with self._lock:
            late = [i for i, since in self._since.items() if now - since > limit]
            for i in late:
                del self._since[i]
                self._num_workers -= 1
        for _ in late:
            self._hire()
        return [
            self._completion(self._waiting.pop(i), Again(f"no answer within {limit:g} s"))
            for i in late
            if i in self._waiting
        ]

    def _hire(self) -> None:
        self._num_workers += 1
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            request = self._todo.get()
            if self._waiting.get(request.id) is not request:
                continue
            answer = self._asked(request)
            with self._lock:
                if self._since.pop(request.id, None) is None:
                    return  # another thread has taken the place of this one
            self._done.put((request, answer))

    def _asked(self, request: Request) -> Answer | Failure:
        question = Question(messages(request.token_ids), request.max_tokens, request.seed, request.sampling)
        for attempt in range(self.options.max_retries + 1):
            with self._lock:
                self._since[request.id] = time.monotonic()
            try:
                answer = self.ask(question)
            except Again as failure:
                if attempt == self.options.max_retries:
                    return Again(f"{failure} ({attempt + 1} times)" if attempt else str(failure))
                self._wait(request, attempt, failure)
            except Failure as failure:
                return failure
            except Exception as error:  # of the client: it must not cost the thread
                return Hopeless(f"{type(error).__name__}: {error}")
            else:
                with self._lock:
                    self.usage += answer.usage
                return answer
        raise AssertionError("the last attempt returns")

    def _wait(self, request: Request, attempt: int, failure: Again) -> None:
        """Up to twice the pause, by a number of the request's own: not all come back at once."""
        luck = float(uniforms(np.array([request.seed], np.uint64), np.array([attempt]))[0])
        pause = FIRST_WAIT_S * 2**attempt * (1 + luck)
        pause = min(max(pause, failure.wait_s or 0.0), self.options.max_wait_s)
        with self._lock:
            self.usage = replace(
                self.usage, retries=self.usage.retries + 1, waited_s=self.usage.waited_s + pause
            )
            now = time.monotonic()
            self._since[request.id] = now + pause
            says = now - self._noted >= NOTE_S
            self._noted = now if says else self._noted
        if says:
            tries = f"try {attempt + 2} of {self.options.max_retries + 1} in {pause:.0f} s"
            log.warning(f"{self.options.shown}: {failure}; {tries}")
        time.sleep(pause)
